//! Dependencies point one way: every path in `src/` keeps to the order of modules that `src/lib.rs` states, and no file
//! imports itself through others.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// A source file: its module path (`ops::conv2d::cpu`), and its text.
struct Source {
    module: Vec<String>,
    text: String,
}

/// The source files in `src/`, without the programs.
fn sources() -> Vec<Source> {
    fn read(folder: &Path, module: &[String], sources: &mut Vec<Source>) {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let (path, name) = (entry.path(), entry.file_name().into_string().unwrap());
            if path.is_dir() {
                if module.is_empty() && name == "bin" {
                    continue;
                }
                read(&path, &[module, &[name]].concat(), sources);
            } else if let Some(stem) = name.strip_suffix(".rs") {
                let inner = if ["mod", "lib"].contains(&stem) { Vec::new() } else { vec![stem.to_owned()] };
                sources.push(Source { module: [module, &inner].concat(), text: fs::read_to_string(path).unwrap() });
            }
        }
    }
    let mut sources = Vec::new();
    read(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src")), &[], &mut sources);
    sources
}

/// The order that the crate's documentation states, first to last.
fn order(lib: &str) -> Vec<String> {
    let line = lib.lines().find(|line| line.contains(" → ")).expect("lib.rs states the order of modules");
    let line = line.trim_start_matches("//!").trim().trim_end_matches('.').trim_matches('`');
    line.split(" → ").map(str::to_owned).collect()
}

/// The re-exports of lib.rs, each with its module: `Error` is of `error`.
fn exports(lib: &str) -> BTreeMap<String, String> {
    let mut exports = BTreeMap::new();
    for line in lib.lines().filter_map(|line| line.strip_prefix("pub use ")) {
        let (module, names) = line.trim_end_matches(';').split_once("::").expect("a path");
        for name in names.trim_matches(['{', '}']).split(", ") {
            exports.insert(name.to_owned(), module.to_owned());
        }
    }
    exports
}

/// A file's code without comments, and without the tests at its end.
fn code(text: &str) -> String {
    let lines = text.lines().take_while(|line| !line.starts_with("mod tests {"));
    lines.filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// The paths in a file's code that begin with `crate::` or `super::`, as absolute module paths. A group in braces gives
/// one path for each of its members.
fn paths(source: &Source) -> BTreeSet<Vec<String>> {
    let text = code(&source.text);
    let mut paths = BTreeSet::new();
    for (start, root) in ["crate::", "super::"].iter().flat_map(|root| text.match_indices(root)) {
        let before = text[..start].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':') {
            continue;
        }
        let mut base = if root == "crate::" { Vec::new() } else { parent(&source.module) };
        let mut rest = &text[start + root.len()..];
        while let Some(deeper) = rest.strip_prefix("super::") {
            base.pop();
            rest = deeper;
        }
        expand(&base, rest, &mut paths);
    }
    paths
}

fn parent(module: &[String]) -> Vec<String> {
    module[..module.len().saturating_sub(1)].to_vec()
}

/// Adds the path at the start of `text`, or each path of a group in braces.
fn expand(base: &[String], text: &str, paths: &mut BTreeSet<Vec<String>>) {
    if let Some(group) = text.strip_prefix('{') {
        let (mut depth, mut start) = (0, 0);
        for (i, c) in group.char_indices() {
            match c {
                '{' => depth += 1,
                '}' | ',' if depth == 0 => {
                    expand(base, group[start..i].trim(), paths);
                    start = i + 1;
                    if c == '}' {
                        return;
                    }
                }
                '}' => depth -= 1,
                _ => {}
            }
        }
        return;
    }
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    if name.is_empty() {
        return;
    }
    let path = if name == "self" { base.to_vec() } else { [base, &[name.to_owned()]].concat() };
    match rest.strip_prefix("::") {
        Some(rest) => expand(&path, rest, paths),
        None => drop(paths.insert(path)),
    }
}

/// Imports of a later module by an earlier one.
fn against_the_order(sources: &[Source], lib: &str) -> Vec<String> {
    let (order, exports) = (order(lib), exports(lib));
    let rank = |module: &str| order.iter().position(|name| name == module);
    let mut wrong = Vec::new();
    for source in sources {
        let Some(own) = source.module.first() else { continue };
        let Some(at) = rank(own) else {
            wrong.push(format!("module {own} is not in the order of lib.rs"));
            continue;
        };
        for path in paths(source) {
            let Some(first) = path.first() else { continue };
            let module = exports.get(first).unwrap_or(first);
            if rank(module).is_some_and(|imported| imported > at) {
                wrong.push(format!("{} uses {}, which comes later", source.module.join("::"), path.join("::")));
            }
        }
    }
    wrong
}

/// Re-exports of modules: the path of the name, and the file that has it.
fn reexports(sources: &[Source]) -> BTreeMap<Vec<String>, Vec<String>> {
    let mut reexports = BTreeMap::new();
    for source in sources {
        for statement in code(&source.text).split(';') {
            let Some((visibility, path)) = statement.trim_start().rsplit_once("use ") else { continue };
            let visibility = visibility.lines().last().unwrap_or_default().trim();
            let child = path.split("::").next().unwrap_or_default().to_owned();
            let file = [&source.module[..], &[child]].concat();
            if !visibility.starts_with("pub") || !sources.iter().any(|other| other.module == file) {
                continue;
            }
            let mut names = BTreeSet::new();
            expand(&source.module, path, &mut names);
            for name in names {
                let alias = [&source.module[..], &name[name.len() - 1..]].concat();
                reexports.insert(alias, file.clone());
            }
        }
    }
    reexports
}

/// Import cycles between files, re-exports followed to the file that has the name. Between a module and the files of its
/// own folder, declarations and `super::` do not count as imports.
fn circles(sources: &[Source]) -> Vec<String> {
    let files: BTreeSet<&[String]> = sources.iter().map(|source| &source.module[..]).collect();
    let reexports = reexports(sources);
    let within = |a: &[String], b: &[String]| a.len() < b.len() && b.starts_with(a);
    let mut arrows: BTreeMap<&[String], BTreeSet<&[String]>> = BTreeMap::new();
    for source in sources {
        for path in paths(source) {
            let path = (1..=path.len()).find_map(|len| reexports.get(&path[..len])).unwrap_or(&path);
            let file = (1..=path.len()).rev().find_map(|len| files.get(&path[..len]));
            let Some(&file) = file else { continue };
            let own = &source.module[..];
            if file != own && !within(file, own) && !within(own, file) {
                arrows.entry(own).or_default().insert(file);
            }
        }
    }
    let reaches = |from: &[String], to: &[String]| {
        let (mut seen, mut next) = (BTreeSet::new(), vec![from.to_vec()]);
        while let Some(file) = next.pop() {
            for &to in arrows.get(&file[..]).into_iter().flatten() {
                if seen.insert(to.to_vec()) {
                    next.push(to.to_vec());
                }
            }
        }
        seen.contains(to)
    };
    let in_circles = arrows.keys().filter(|file| reaches(file, file));
    in_circles.map(|file| format!("{} is in a circle", file.join("::"))).collect()
}

fn lib(sources: &[Source]) -> &str {
    &sources.iter().find(|source| source.module.is_empty()).expect("lib.rs").text
}

#[test]
fn imports_follow_the_order_of_lib_rs() {
    let sources = sources();
    assert!(sources.len() > 80, "{} files", sources.len());
    assert_eq!(order(lib(&sources)).len(), 16);
    let wrong = against_the_order(&sources, lib(&sources));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_file_is_in_an_import_cycle() {
    let circles = circles(&sources());
    assert!(circles.is_empty(), "{}", circles.join("\n"));
}

/// The checks above detect violations that are planted for them.
#[test]
fn planted_violations_are_found() {
    let plant = |module: &str, line: &str| {
        let module: Vec<String> = module.split("::").map(str::to_owned).collect();
        let mut sources = sources();
        let at = sources.iter().position(|source| source.module == module).expect("a file of src/");
        sources[at].text = format!("{line}\n{}", sources[at].text);
        sources
    };
    for (module, line, found) in [
        ("shape", "use crate::{Result, nn::{Module, Plan}};", "shape uses nn::Plan, which comes later"),
        ("device::cuda::buf", "use crate::ops::Affine;", "device::cuda::buf uses ops::Affine, which comes later"),
        ("tape", "use super::train::Trainer;", "tape uses train::Trainer, which comes later"),
        ("error", "use crate::Backend;", "error uses Backend, which comes later"),
        ("ops::relu::cpu", "fn f() -> crate::nn::Nin { todo!() }", "ops::relu::cpu uses nn::Nin, which comes later"),
    ] {
        let sources = plant(module, line);
        let wrong = against_the_order(&sources, lib(&sources));
        assert!(wrong.iter().any(|wrong| wrong == found), "{line}: {wrong:?}");
    }
    let sources = plant("ops::maxpool", "use super::mlpconv::MlpConvShape;");
    assert!(circles(&sources).contains(&"ops::maxpool is in a circle".to_owned()));
    // Through a re-export: `Params` is in ops/chain.rs.
    let sources = plant("ops::affine", "use super::Params;");
    assert!(circles(&sources).contains(&"ops::chain is in a circle".to_owned()));
}
