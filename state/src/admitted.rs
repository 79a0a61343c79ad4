//! The layout of the branch `admitted`: where releases, rules and the signed statement of a tree lie.

use crate::manifest::Subject;
use crate::name::EnvironmentName;

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
}
