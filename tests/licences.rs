//! Every dependency comes from crates.io, under a licence that is listed here with its reason, and in one version but
//! for those that are listed.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

/// The licences that a dependency may have, and what each asks of a program that is built with it.
const ALLOWED: [(&str, &str); 7] = [
    ("MIT", "this project's own, with Apache-2.0: the notice goes along"),
    ("Apache-2.0", "this project's own, with MIT: licence and notices go along"),
    ("BSD-3-Clause", "the notice goes along; the authors' names do not advertise"),
    ("ISC", "the notice goes along"),
    ("Zlib", "altered sources are marked"),
    ("Unicode-3.0", "tables of Unicode in the compiler's macros; the notice goes along"),
    (
        "CDLA-Permissive-2.0",
        "the certificate authorities of `webpki-roots`, data; the licence goes along with the data",
    ),
];

/// Crates of which two versions are built, and the dependencies that ask for the older one.
const TWICE: [(&str, &str); 5] = [
    ("getrandom", "ring"),
    ("hashbrown", "one of indexmap's and one of others"),
    ("itertools", "criterion's and ratatui's"),
    ("miniz_oxide", "png"),
    ("syn", "zerocopy-derive, prost-derive and others"),
];

/// The packages of this workspace and all that it is built and tested with on this platform.
fn packages() -> Vec<Value> {
    let output = |command: &mut Command| {
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let version = output(Command::new("rustc").arg("-vV"));
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).expect("rustc names its platform");
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["metadata", "--format-version", "1", "--locked", "--filter-platform", host]);
    let metadata: Value = serde_json::from_str(&output(cargo.current_dir(env!("CARGO_MANIFEST_DIR")))).unwrap();
    metadata["packages"].as_array().unwrap().clone()
}

fn text<'a>(package: &'a Value, key: &str) -> &'a str {
    package[key].as_str().unwrap_or_default()
}

/// Whether a licence expression (SPDX, or the older `A/B`) can be met by allowed licences alone.
fn met(expression: &str, allowed: &dyn Fn(&str) -> bool) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let mut words = spaced.split_whitespace().peekable();
    let met = any(&mut words, allowed);
    met && words.next().is_none()
}

type Words<'a> = std::iter::Peekable<std::str::SplitWhitespace<'a>>;

fn any(words: &mut Words, allowed: &dyn Fn(&str) -> bool) -> bool {
    let mut met = all(words, allowed);
    while words.next_if_eq(&"OR").is_some() {
        met |= all(words, allowed);
    }
    met
}

fn all(words: &mut Words, allowed: &dyn Fn(&str) -> bool) -> bool {
    let mut met = one(words, allowed);
    while words.next_if_eq(&"AND").is_some() {
        met &= one(words, allowed);
    }
    met
}

fn one(words: &mut Words, allowed: &dyn Fn(&str) -> bool) -> bool {
    match words.next() {
        Some("(") => any(words, allowed) & (words.next() == Some(")")),
        Some(licence) => match words.next_if_eq(&"WITH").and_then(|_| words.next()) {
            Some(exception) => allowed(&format!("{licence} WITH {exception}")),
            None => allowed(licence),
        },
        None => false,
    }
}

#[test]
fn every_dependency_has_an_allowed_licence_and_comes_from_crates_io() {
    let allowed = |licence: &str| ALLOWED.iter().any(|(name, _)| *name == licence);
    let packages = packages();
    assert!(packages.len() > 100, "{} packages", packages.len());
    let mut wrong = Vec::new();
    for package in &packages {
        let (name, licence) = (text(package, "name"), text(package, "license"));
        if !met(licence, &allowed) {
            wrong.push(format!("{name}: the licence {licence:?} is not allowed"));
        }
        // A package of the workspace has no source.
        let source = text(package, "source");
        if !["", "registry+https://github.com/rust-lang/crates.io-index"].contains(&source) {
            wrong.push(format!("{name}: it comes from {source}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let needed = |without: &str| {
        let rest = |licence: &str| licence != without && allowed(licence);
        packages.iter().any(|package| !met(text(package, "license"), &rest))
    };
    let needless: Vec<&str> = ALLOWED.iter().map(|(name, _)| *name).filter(|name| !needed(name)).collect();
    assert!(needless.is_empty(), "no dependency needs {needless:?}");
}

#[test]
fn no_crate_is_built_in_two_versions_but_those_listed() {
    let mut versions: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for package in packages() {
        versions.entry(text(&package, "name").into()).or_default().insert(text(&package, "version").into());
    }
    let twice: Vec<_> = versions.iter().filter(|(_, versions)| versions.len() > 1).collect();
    let known: Vec<&str> = TWICE.iter().map(|(name, _)| *name).collect();
    assert_eq!(twice.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), known, "{twice:?}");
}

#[test]
fn licence_expressions_are_understood() {
    let met = |expression| met(expression, &|licence| ["MIT", "ISC"].contains(&licence));
    for yes in ["MIT", "GPL-3.0 OR MIT", "MIT AND ISC", "(GPL-3.0 OR MIT) AND ISC", "Apache-2.0/MIT"] {
        assert!(met(yes), "{yes}");
    }
    for no in ["", "GPL-3.0", "MIT AND GPL-3.0", "(MIT OR ISC) AND GPL-3.0", "MIT WITH an-exception", "(MIT", "MIT ISC"]
    {
        assert!(!met(no), "{no}");
    }
}
