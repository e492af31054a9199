//! Modules within modules, as PyTorch's `nn.Sequential` nests them: the flat list of layers, put back by their names.

use std::collections::BTreeSet;

/// A module: one call, or a sequence of named modules.
enum Module {
    One(String),
    Sequence(Vec<(String, Module)>),
}

/// The modules of a network, by the parts of their names.
pub(super) struct Tree {
    modules: Vec<(String, Module)>,
    /// The names of all layers, and of the modules that contain them.
    taken: BTreeSet<String>,
}

/// The columns by which a line within brackets is indented.
const INDENT: usize = 4;

impl Tree {
    /// A tree without modules, for layers of these names.
    pub(super) fn new<'a>(paths: impl Iterator<Item = &'a str>) -> Self {
        let within = |path: &'a str| path.match_indices('.').map(|(dot, _)| &path[..dot]).chain([path]);
        Tree { modules: Vec::new(), taken: paths.flat_map(within).map(str::to_owned).collect() }
    }

    /// Appends the module `path`, which is made by the call `code`.
    ///
    /// # Errors
    /// What is wrong with the name: a part of it is empty, another module has it, or its module has ended before.
    pub(super) fn push(&mut self, path: &str, code: String) -> Result<(), String> {
        let mut modules = &mut self.modules;
        let parts: Vec<&str> = path.split('.').collect();
        let Some((name, folders)) = parts.split_last() else { return Err("has no name".into()) };
        if parts.contains(&"") {
            return Err("has no name within its module; push it to a Sequential".into());
        }
        for (depth, folder) in folders.iter().enumerate() {
            let last = modules.len().wrapping_sub(1);
            let at = modules.iter().position(|(other, _)| other == folder).unwrap_or_else(|| {
                modules.push(((*folder).to_owned(), Module::Sequence(Vec::new())));
                modules.len() - 1
            });
            let full = parts[..=depth].join(".");
            if at < last && last != usize::MAX {
                return Err(format!("comes after layers that are not of {full}, in which others come before it"));
            }
            modules = match &mut modules[at].1 {
                Module::Sequence(modules) => modules,
                Module::One(_) => return Err(format!("is within {full}, which is a layer itself")),
            };
        }
        if modules.iter().any(|(other, _)| other == name) {
            return Err("has the name of another module".into());
        }
        modules.push(((*name).to_owned(), Module::One(code)));
        Ok(())
    }

    /// A name for a module without parameters that runs after `path`: the next number if no layer has it, as PyTorch
    /// counts ReLUs too.
    pub(super) fn after(&mut self, path: &str, word: &str) -> String {
        let (folder, name) =
            path.rsplit_once('.').map_or(("", path), |(_, name)| (&path[..path.len() - name.len()], name));
        let next = name.parse::<usize>().ok().and_then(|number| number.checked_add(1));
        let next = next.map(|next| format!("{folder}{next}")).filter(|next| !self.taken.contains(next));
        let mut next = next.unwrap_or_else(|| format!("{path}_{word}"));
        while !self.taken.insert(next.clone()) {
            next.push('_');
        }
        next
    }

    /// The arguments of `nn.Sequential`, indented.
    pub(super) fn arguments(&self, indent: usize) -> String {
        arguments(&self.modules, indent)
    }
}

fn arguments(modules: &[(String, Module)], indent: usize) -> String {
    let pad = " ".repeat(indent);
    let counted = modules.iter().enumerate().all(|(i, (name, _))| *name == i.to_string());
    if counted {
        return modules.iter().map(|(_, module)| format!("{pad}{},\n", call(module, indent))).collect();
    }
    let inner = indent + INDENT;
    let named = |(name, module): &(String, Module)| {
        // JSON's strings are Python's.
        let name = serde_json::Value::from(&**name);
        format!("{}({name}, {}),\n", " ".repeat(inner), call(module, inner))
    };
    let named: String = modules.iter().map(named).collect();
    format!("{pad}OrderedDict([\n{named}{pad}]),\n")
}

fn call(module: &Module, indent: usize) -> String {
    match module {
        Module::One(code) => code.clone(),
        Module::Sequence(modules) => {
            let within = arguments(modules, indent + INDENT);
            format!("nn.Sequential(\n{within}{})", " ".repeat(indent))
        }
    }
}
