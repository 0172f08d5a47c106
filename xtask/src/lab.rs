//! `cargo xtask lab`: chooses scenarios of `tests/scenarios/` and has the program `tcat-lab` run them.
//!
//! Holds always: true only if everything was built and no scenario failed. Left out: what a scenario does; that is
//! `tests/src/lab/`, and how to write one is docs/laboratory.md.

use std::path::{Path, PathBuf};

/// What `cargo xtask lab` was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Only the short pass.
    pub smoke: bool,
    /// These scenarios; none: all.
    pub names: Vec<String>,
}

impl Wanted {
    /// The short pass, for `cargo xtask test`.
    pub fn smoke() -> Self {
        Self { smoke: true, names: Vec::new() }
    }

    /// Reads `[NAME...] [--smoke]`.
    pub fn read(words: &[&str]) -> Result<Self, String> {
        let mut wanted = Self::default();
        for word in words {
            match *word {
                "--smoke" => wanted.smoke = true,
                option if option.starts_with('-') => return Err(format!("no such option: {option}")),
                name => wanted.names.push(name.to_owned()),
            }
        }
        Ok(wanted)
    }
}

/// The build that a pass needs, as arguments of cargo.
pub const BUILD: [&str; 6] = ["build", "--bins", "-p", "tcat", "-p", "tcat-tests"];

/// The program to start and its arguments; an error is one line.
pub fn command(root: &Path, wanted: &Wanted) -> Result<(PathBuf, Vec<String>), String> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let mut arguments = vec!["--logs".to_owned(), target.join("lab").display().to_string()];
    if wanted.smoke {
        arguments.push("--smoke".into());
    }
    let folder = Path::new("tests").join("scenarios");
    if wanted.names.is_empty() {
        let failed = |why| format!("{}: {why}", folder.display());
        for entry in std::fs::read_dir(root.join(&folder)).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            if Path::new(&name).extension().is_some_and(|it| it == "lab") {
                arguments.push(folder.join(name).display().to_string());
            }
        }
        // In the order of their names; the options before them sort nowhere else.
        let options = if wanted.smoke { 3 } else { 2 };
        arguments[options..].sort();
    }
    for name in &wanted.names {
        let file = folder.join(format!("{}.lab", name.trim_end_matches(".lab")));
        if !root.join(&file).is_file() {
            return Err(format!("there is no scenario {name:?}; `ls {}` lists them", folder.display()));
        }
        arguments.push(file.display().to_string());
    }
    Ok((target.join("debug").join("tcat-lab"), arguments))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scenarios_are_chosen_by_name_or_all_of_them() {
        let root = crate::workspace_root();
        let (_, all) = command(&root, &Wanted::default()).unwrap();
        assert!(all.iter().any(|file| file.ends_with("three-hosts.lab")), "{all:?}");
        let wanted = Wanted::read(&["three-hosts", "--smoke"]).unwrap();
        let (_, one) = command(&root, &wanted).unwrap();
        assert_eq!(one.len(), 4, "{one:?}");
        assert!(command(&root, &Wanted::read(&["nothing"]).unwrap()).unwrap_err().contains("no scenario"));
        assert!(Wanted::read(&["--fast"]).is_err());
    }
}
