//! What would change, as text: the unified difference of each release and of each environment's rules.

use std::fmt::Write as _;

use similar::{ChangeTag, TextDiff};
use state::manifest::{Change, Subject};
use state::render::Rendered;
use state::text::Escaped;

use crate::output::{Colour, Paint, transition};

/// The differences that `changes` make, between `old` and `new`.
pub fn difference(changes: &[Change], old: &Rendered, new: &Rendered, paint: Paint) -> String {
    let mut out = String::new();
    for change in changes {
        let title = format!(
            "{} {}  {}",
            change.environment,
            change.subject,
            transition(change.from, change.to)
        );
        let _ = writeln!(out, "{}", paint.paint(Colour::Bold, title.trim_end()));
        let (before, after) = (text(old, change), text(new, change));
        let lines = TextDiff::from_lines(&before, &after);
        for hunk in lines.unified_diff().context_radius(3).iter_hunks() {
            let _ = writeln!(out, "{}", hunk.header());
            for line in hunk.iter_changes() {
                let text = Escaped(line.value().trim_end_matches('\n')).to_string();
                let _ = match line.tag() {
                    ChangeTag::Delete => {
                        writeln!(out, "{}", paint.paint(Colour::Red, format!("-{text}")))
                    }
                    ChangeTag::Insert => {
                        writeln!(out, "{}", paint.paint(Colour::Green, format!("+{text}")))
                    }
                    ChangeTag::Equal => writeln!(out, " {text}"),
                };
            }
        }
    }
    out
}

/// The release or the rules at the place of `change`, without the origin: it differs whenever anything does.
fn text(rendered: &Rendered, change: &Change) -> String {
    let yaml = match &change.subject {
        Subject::Rules => rendered
            .rules
            .get(&change.environment)
            .map(state::release::Rules::to_yaml),
        Subject::Service(service) => rendered
            .releases
            .get(&(change.environment.clone(), service.clone()))
            .map(state::release::Release::to_yaml),
    };
    let yaml = yaml.unwrap_or_default();
    let mut of_origin = false;
    yaml.split_inclusive('\n')
        .filter(|line| {
            of_origin = line.starts_with("origin:") || (of_origin && line.starts_with(' '));
            !of_origin
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::changes;
    use crate::testing::World;
    use serde_json::json;

    #[test]
    fn a_new_pin_is_one_line_against_another() {
        let world = World::default().rules("dev", &json!({}));
        let (old, new) = (
            world.clone().runs("dev", "web", 1),
            world.runs("dev", "web", 2),
        );
        let text = difference(&changes(&old.0, &new.0), &old.0, &new.0, Paint::Plain);
        let changed: Vec<_> = text
            .lines()
            .filter(|line| line.starts_with(['+', '-']))
            .collect();
        assert_eq!(changed.len(), 2, "{text}");
        assert!(
            changed[0].contains(&"01".repeat(20)) && changed[1].contains(&"02".repeat(20)),
            "{text}"
        );
        assert!(!text.contains("origin"), "{text}");
    }
}
