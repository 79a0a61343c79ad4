//! The house keeps its order: a module imports only what stands below it, and what a refusal means is said in one place.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use syn::visit::{self, Visit};
use tests::page::top;

/// The crates whose modules stand in an order.
const CRATES: [&str; 3] = ["state", "policy", "agent"];

/// The sources of `krate`, by the path of their module; unit tests of their own file are left out.
fn modules(krate: &str) -> BTreeMap<Vec<String>, syn::File> {
    let mut modules = BTreeMap::new();
    let src = top().join(krate).join("src");
    collect(&src, &src, &mut modules);
    assert!(modules.len() > 10, "{krate}: {} modules", modules.len());
    modules
}

fn collect(src: &Path, folder: &Path, modules: &mut BTreeMap<Vec<String>, syn::File>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(src, &path, modules);
            continue;
        }
        let below = path.strip_prefix(src).unwrap().with_extension("");
        let name: Vec<String> = below
            .iter()
            .map(|part| part.to_str().unwrap().to_owned())
            .collect();
        if !["lib", "main", "tests"].contains(&name.last().unwrap().as_str()) {
            let text = std::fs::read_to_string(&path).unwrap();
            let file = syn::parse_file(&text);
            modules.insert(
                name,
                file.unwrap_or_else(|error| panic!("{below:?}: {error}")),
            );
        }
    }
}

fn is_test(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute
                .parse_args::<syn::Path>()
                .is_ok_and(|path| path.is_ident("test"))
    })
}

/// Collects the paths that a module names, from the crate's root on.
struct Paths<'a> {
    module: &'a [String],
    found: BTreeSet<Vec<String>>,
}

impl Paths<'_> {
    /// Notes a path as it is written, if it begins in this crate.
    fn note(&mut self, path: &[String]) {
        let Some((first, mut rest)) = path.split_first() else {
            return;
        };
        let mut from = match first.as_str() {
            "crate" => Vec::new(),
            "self" => self.module.to_vec(),
            "super" => self.module[..self.module.len() - 1].to_vec(),
            // Another crate, or a part of this module that lies in a file below it.
            _ => return,
        };
        while let Some((step, after)) = rest.split_first().filter(|(step, _)| *step == "super") {
            let _: &String = step;
            from.pop();
            rest = after;
        }
        from.extend_from_slice(rest);
        self.found.insert(from);
    }

    fn note_use(&mut self, before: &mut Vec<String>, tree: &syn::UseTree) {
        match tree {
            syn::UseTree::Path(path) => {
                before.push(path.ident.to_string());
                self.note_use(before, &path.tree);
                before.pop();
            }
            syn::UseTree::Group(group) => {
                for tree in &group.items {
                    self.note_use(before, tree);
                }
            }
            syn::UseTree::Name(syn::UseName { ident })
            | syn::UseTree::Rename(syn::UseRename { ident, .. }) => {
                before.push(ident.to_string());
                self.note(before);
                before.pop();
            }
            syn::UseTree::Glob(_) => self.note(before),
        }
    }
}

impl<'ast> Visit<'ast> for Paths<'_> {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if !is_test(&item.attrs) {
            visit::visit_item_mod(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.note_use(&mut Vec::new(), &item.tree);
    }

    /// Who may see an item is no import.
    fn visit_vis_restricted(&mut self, _: &'ast syn::VisRestricted) {}

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments = path.segments.iter();
        let names: Vec<_> = segments.map(|part| part.ident.to_string()).collect();
        self.note(&names);
        visit::visit_path(self, path);
    }
}

/// Which modules each module imports from.
fn imports(modules: &BTreeMap<Vec<String>, syn::File>) -> BTreeMap<String, BTreeSet<String>> {
    let mut imports = BTreeMap::new();
    for (name, file) in modules {
        let mut paths = Paths {
            module: name,
            found: BTreeSet::new(),
        };
        paths.visit_file(file);
        let from = paths.found.into_iter().filter_map(|mut path| {
            while !path.is_empty() && !modules.contains_key(&path) {
                path.pop();
            }
            (!path.is_empty() && path != *name).then(|| path.join("::"))
        });
        imports.insert(name.join("::"), from.collect());
    }
    imports
}

/// What is left of `imports` when all modules are gone that import nothing, or that nothing imports: circles.
fn circles(mut imports: BTreeMap<String, BTreeSet<String>>) -> BTreeMap<String, BTreeSet<String>> {
    loop {
        let imported: BTreeSet<_> = imports.values().flatten().cloned().collect();
        let before = imports.len();
        imports.retain(|name, from| !from.is_empty() && imported.contains(name));
        let names: BTreeSet<_> = imports.keys().cloned().collect();
        for from in imports.values_mut() {
            from.retain(|name| names.contains(name));
        }
        if imports.len() == before {
            return imports;
        }
    }
}

#[test]
fn no_modules_import_each_other_in_a_circle() {
    for krate in CRATES {
        let imports = imports(&modules(krate));
        assert!(imports.values().map(BTreeSet::len).sum::<usize>() > 50);
        let circles = circles(imports);
        assert!(circles.is_empty(), "{krate}: {circles:#?}");
    }
}

#[test]
fn a_circle_would_be_found() {
    let edges = [
        ("a", "b"),
        ("b", "c"),
        ("c", "b"),
        ("top", "a"),
        ("c", "low"),
    ];
    let mut imports: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (from, to) in edges {
        imports
            .entry(from.to_owned())
            .or_default()
            .insert(to.to_owned());
        imports.entry(to.to_owned()).or_default();
    }
    let found: Vec<_> = circles(imports).into_keys().collect();
    assert_eq!(found, ["b", "c"]);
}

/// Finds patterns that list codes of refusals.
#[derive(Default)]
struct Lists(Vec<String>);

impl<'ast> Visit<'ast> for Lists {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if !is_test(&item.attrs) {
            visit::visit_item_mod(self, item);
        }
    }

    fn visit_pat_or(&mut self, pattern: &'ast syn::PatOr) {
        let codes = pattern.cases.iter().filter_map(code);
        self.note(&codes.collect::<Vec<_>>());
        visit::visit_pat_or(self, pattern);
    }

    /// What stands in a macro, as in `matches!`, is only known as tokens.
    fn visit_macro(&mut self, item: &'ast syn::Macro) {
        let text = item.tokens.to_string();
        let codes = text
            .split('|')
            .map(|part| part.split(',').next_back().unwrap_or_default().trim());
        let codes = codes.filter(|part| part.starts_with("Code ::"));
        self.note(&codes.map(str::to_owned).collect::<Vec<_>>());
    }
}

impl Lists {
    fn note(&mut self, codes: &[String]) {
        if codes.len() > 1 {
            self.0.push(codes.join(" | "));
        }
    }
}

fn code(pattern: &syn::Pat) -> Option<String> {
    let syn::Pat::Path(path) = pattern else {
        return None;
    };
    let segments: Vec<_> = path.path.segments.iter().collect();
    match segments.as_slice() {
        [.., kind, name] if kind.ident == "Code" => Some(name.ident.to_string()),
        _ => None,
    }
}

#[test]
fn what_codes_have_in_common_is_asked_of_the_codes() {
    for krate in ["state", "policy", "agent"] {
        for (name, file) in modules(krate) {
            if name.first().is_some_and(|first| first == "refusal") {
                continue;
            }
            let mut lists = Lists::default();
            lists.visit_file(&file);
            assert!(
                lists.0.is_empty(),
                "{krate}: {}: {:?}: say in state/src/refusal/class.rs what they have in common",
                name.join("::"),
                lists.0
            );
        }
    }
}

#[test]
fn every_path_that_the_architecture_names_exists() {
    let text = std::fs::read_to_string(top().join("docs/architecture.md")).unwrap();
    let code = text.split('`').skip(1).step_by(2);
    let paths: Vec<_> = code
        .filter(|code| code.contains('/') && !code.contains(char::is_whitespace))
        .collect();
    assert!(paths.len() > 50, "{paths:?}");
    for path in paths {
        assert!(top().join(path).exists(), "{path}");
    }
}
