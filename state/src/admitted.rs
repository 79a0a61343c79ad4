//! The layout of the branch `admitted`: where releases, rules and the signed statement of a tree lie.

use crate::manifest::Subject;
use crate::name::{EnvironmentName, Label};

/// The files at the root that the manifest's tree id leaves out: itself and its signature.
pub const STATEMENT: [&str; 2] = [MANIFEST, SIGNATURE];

/// The manifest.
pub const MANIFEST: &str = "manifest";

/// Its signature.
pub const SIGNATURE: &str = "manifest.sig";

/// The path of a release, or of an environment's rules.
pub fn path(environment: &EnvironmentName, subject: &Subject) -> String {
    format!("releases/{environment}/{subject}.yaml")
}

/// Whose release or rules lie at `path`; `None` for any other file.
pub fn place(path: &str) -> Option<(EnvironmentName, Subject)> {
    let (environment, file) = path.strip_prefix("releases/")?.split_once('/')?;
    let subject = file.strip_suffix(".yaml")?;
    Some((environment.parse().ok()?, subject.parse().ok()?))
}

/// The folder of the evidence for what was admitted at a place, with a final `/`.
pub fn evidence(environment: &EnvironmentName, subject: &Subject) -> String {
    format!("evidence/{environment}/{subject}/")
}

/// For whose change `path` is evidence: an approval `<name>` or its signature `<name>.sig`; `None` for any other file.
pub fn evidence_place(path: &str) -> Option<(EnvironmentName, Subject)> {
    let (environment, rest) = path.strip_prefix("evidence/")?.split_once('/')?;
    let (subject, file) = rest.split_once('/')?;
    let name = file.strip_suffix(".sig").unwrap_or(file);
    name.parse::<Label>().ok()?;
    Some((environment.parse().ok()?, subject.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_and_its_place_are_two_forms_of_one_thing() {
        for text in ["releases/prod/web.yaml", "releases/prod/environment.yaml"] {
            let (environment, subject) = place(text).unwrap();
            assert_eq!(path(&environment, &subject), text);
        }
        for text in [
            "manifest",
            "releases/web.yaml",
            "releases/prod/a/web.yaml",
            "releases/prod/web.yml",
        ] {
            assert_eq!(place(text), None, "{text}");
        }
    }

    #[test]
    fn evidence_is_a_statement_or_its_signature_in_the_folder_of_a_place() {
        for file in ["alice", "alice.sig"] {
            for text in ["evidence/prod/web/", "evidence/prod/environment/"] {
                let (environment, subject) = evidence_place(&format!("{text}{file}")).unwrap();
                assert_eq!(evidence(&environment, &subject), text);
            }
        }
        for text in [
            "evidence/prod/alice",
            "evidence/prod/web/more/alice",
            "evidence/prod/web/alice.txt",
            "evidence/prod/web/",
            "releases/prod/web.yaml",
        ] {
            assert_eq!(evidence_place(text), None, "{text}");
        }
    }
}
