//! A trust file as lines of text: finds fields, items and keys in the spellings that people use, and changes them there.

use std::ops::Range;

use anyhow::Context as _;
use state::key::PublicKey;

/// The lines of a file.
#[derive(Clone, Debug)]
pub(super) struct Lines(Vec<String>);

impl Lines {
    pub(super) fn of(text: &str) -> Self {
        Self(text.lines().map(str::to_owned).collect())
    }

    pub(super) fn text(&self) -> String {
        self.0.join("\n") + "\n"
    }

    /// Puts a top-level map at the end, in place of what the field was.
    pub(super) fn put(&mut self, field: &str, lines: &[String]) {
        if let Some(section) = self.section(field) {
            self.0.drain(section);
        }
        self.0.push(format!("{field}:"));
        self.0.extend(lines.iter().map(|line| format!("  {line}")));
    }

    /// Puts a text in the place of a listed key and its comment.
    pub(super) fn replace(&mut self, key: &PublicKey, new: &str) -> anyhow::Result<()> {
        let (line, span) = self.spelled(key)?;
        self.0[line].replace_range(span, new);
        Ok(())
    }

    /// The lines of a top-level field, without the comments that stand before the next one.
    fn section(&self, field: &str) -> Option<Range<usize>> {
        let opens = |line: &String| {
            let rest = line.strip_prefix(field);
            rest.is_some_and(|rest| rest.trim_start().starts_with(':'))
        };
        let start = self.0.iter().position(opens)?;
        let continues =
            |line: &&String| line.is_empty() || line.starts_with([' ', '\t', '-', '#', ']', '}']);
        let rest = &self.0[start + 1..];
        let mut length = rest.iter().take_while(continues).count();
        let apart = |line: &String| line.trim().is_empty() || line.starts_with('#');
        while length > 0 && apart(&rest[length - 1]) {
            length -= 1;
        }
        Some(start..start + 1 + length)
    }

    /// Sets a field of one line, or adds it below the field `below`.
    pub(super) fn set(&mut self, field: &str, value: &str, below: &str) {
        match self.section(field) {
            Some(section) => {
                let line = &mut self.0[section.start];
                let comment = line.find(" #").map(|at| line[at..].to_owned());
                *line = format!("{field}: {value}{}", comment.unwrap_or_default());
            }
            None => {
                let at = self.section(below).map_or(0, |section| section.end);
                self.0.insert(at, format!("{field}: {value}"));
            }
        }
    }

    /// Adds an item at the end of a top-level list.
    pub(super) fn insert(&mut self, field: &str, item: &str) -> anyhow::Result<()> {
        let Some(section) = self.section(field) else {
            let lines = [format!("{field}:"), format!("  - {item}")];
            self.0.extend(lines);
            return Ok(());
        };
        let first = self.0[section.clone()].iter().find(|line| is_item(line));
        if let Some(first) = first {
            let line = format!("{:width$}- {item}", "", width = indent(first));
            self.0.insert(section.end, line);
            return Ok(());
        }
        let mut of_list = self.0[section].iter_mut().rev();
        let last = of_list.find(|line| !line.trim_start().starts_with('#'));
        let last = last.context("the list has lines")?;
        let close = last.rfind(']');
        let close = close.with_context(|| format!("`{field}` is not spelled as a list"))?;
        let before = last[..close].trim_end();
        let comma = if before.ends_with('[') { "" } else { "," };
        *last = format!("{before}{comma} {item} {}", &last[close..]);
        Ok(())
    }

    /// Where a listed key stands: its line, and its place there, with its comment if both are quoted.
    fn spelled(&self, key: &PublicKey) -> anyhow::Result<(usize, Range<usize>)> {
        let text = key.to_string();
        let places = self.0.iter().enumerate();
        let found = places
            .filter_map(|(number, line)| line.find(&text).map(|at| (number, line, at)))
            .find(|(_, line, at)| !line[..*at].contains('#'));
        let (number, line, at) = found.context("a key is spelled over several lines")?;
        let before = line[..at].chars().last();
        let rest = &line[at + text.len()..];
        let comment = match before.filter(|c| "\"'".contains(*c)) {
            Some(quote) => rest.find(quote).unwrap_or(0),
            None => 0,
        };
        Ok((number, at..at + text.len() + comment))
    }

    /// Takes the item that holds a key out of its list.
    pub(super) fn remove(&mut self, key: &PublicKey) -> anyhow::Result<()> {
        let (number, span) = self.spelled(key)?;
        let authors = self.section("authors");
        let line = &self.0[number];
        if is_item(line) || authors.is_some_and(|authors| authors.contains(&number)) {
            let begins = |at: &usize| {
                let one = &self.0[*at];
                is_item(one) && (*at == number || indent(one) < indent(line))
            };
            let start = (0..=number).rev().find(begins);
            let start = start.context("a key stands in no item of a list")?;
            let depth = indent(&self.0[start]);
            let deeper = |one: &&String| !one.trim().is_empty() && indent(one) > depth;
            let rest = self.0[start + 1..].iter();
            let end = start + 1 + rest.take_while(deeper).count();
            self.0.drain(start..end);
            self.close_if_empty(start);
            return Ok(());
        }
        let quoted = line[..span.start].ends_with(['"', '\'']);
        let (mut start, mut end) = match quoted {
            true => (span.start - 1, span.end + 1),
            false => (span.start, span.end),
        };
        // With the comma that follows, or else the one before.
        if let Some(rest) = line[end..].trim_start().strip_prefix(',') {
            end = line.len() - rest.trim_start().len();
        } else if let Some(rest) = line[..start].trim_end().strip_suffix(',') {
            start = rest.len();
        }
        self.0[number].replace_range(start..end, "");
        Ok(())
    }

    /// Says of the list whose item stood at `at` that it is empty, if that was its only one.
    fn close_if_empty(&mut self, at: usize) {
        let holds = |line: &&String| !line.trim().is_empty() && !line.trim_start().starts_with('#');
        let next = self.0[at..].iter().find(holds);
        let next = next.filter(|line| is_item(line)).map(|line| indent(line));
        let before = self.0[..at].iter().rposition(|line| holds(&line));
        if let Some(header) = before.map(|at| &mut self.0[at])
            && header.trim_end().ends_with(':')
            && next.is_none_or(|next| next < indent(header))
        {
            *header = format!("{} []", header.trim_end());
        }
    }
}

/// The columns before a line's first character.
fn indent(line: &str) -> usize {
    line.len() - line.trim_start().len()
}

/// Says whether a line begins an item of a list.
fn is_item(line: &str) -> bool {
    line.trim_start().starts_with("- ")
}
