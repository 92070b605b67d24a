// SPDX-License-Identifier: Apache-2.0
//! The environment of an exec and where its program may be, by runc's and Go's rules or by crun's.

use std::collections::{HashMap, HashSet};

use crate::error::{Error, Unsupported};
use crate::text::quote;

/// What `prepareEnv` of runc makes of `process.env`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Environment<'a> {
    pub(crate) entries: Vec<&'a str>,
    /// There is no `HOME`: the container's `/etc/passwd` has it.
    pub(crate) find_home: bool,
    /// What the program is looked for in.
    pub(crate) path: Option<&'a str>,
}

impl<'a> Environment<'a> {
    /// Of several entries with one name the last survives, at its place. An empty `HOME` does not
    /// count.
    pub(crate) fn prepare(env: &'a [String]) -> Result<Environment<'a>, Error> {
        let mut seen = HashSet::new();
        let mut prepared = Environment { entries: Vec::new(), find_home: true, path: None };
        for entry in env.iter().rev() {
            let (name, value) = split(entry)?;
            if !seen.insert(name) {
                continue;
            }
            if entry.contains('\0') {
                return Err(invalid(&format!(" {}: contains nul byte (\\x00)", quote(name))));
            }
            match (name, value) {
                ("HOME", "") => continue,
                ("HOME", _) => prepared.find_home = false,
                ("PATH", _) => prepared.path = Some(value),
                _ => {}
            }
            prepared.entries.push(entry);
        }
        prepared.entries.reverse();
        Ok(prepared)
    }
}

impl<'a> Environment<'a> {
    /// As putenv(3) of crun leaves it: the last of several entries with one name, at the place of
    /// the first. An empty `HOME` counts.
    pub(crate) fn put(env: &'a [String]) -> Result<Environment<'a>, Unsupported> {
        let mut places = HashMap::new();
        let mut entries: Vec<&str> = Vec::new();
        for entry in env {
            let name = entry.split_once('=').map(|(name, _)| name);
            let name = name.filter(|name| !name.is_empty() && !entry.contains('\0'));
            let name =
                name.ok_or_else(|| Unsupported::new("an entry of the environment is odd"))?;
            let place = *places.entry(name).or_insert(entries.len());
            match entries.get_mut(place) {
                Some(earlier) => *earlier = entry,
                None => entries.push(entry),
            }
        }
        let value = |name: &str| {
            let entry = places.get(name).and_then(|place| entries.get(*place));
            entry.and_then(|entry| entry.split_once('=')).map(|(_, value)| value)
        };
        let (find_home, path) = (value("HOME").is_none(), value("PATH"));
        Ok(Environment { entries, find_home, path })
    }
}

fn split(entry: &str) -> Result<(&str, &str), Error> {
    match entry.split_once('=') {
        None => Err(invalid(": missing '='")),
        Some(("", _)) => Err(invalid(": name cannot be empty")),
        Some(split) => Ok(split),
    }
}

fn invalid(why: &str) -> Error {
    Error::Start(format!("invalid environment variable{why}"))
}

/// Where the program is looked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Candidates {
    pub(crate) paths: Vec<String>,
    /// By PATH: what is wrong with a single one does not matter.
    pub(crate) search: bool,
}

impl Candidates {
    /// Go's `exec.LookPath`.
    pub(crate) fn of(name: &str, path: Option<&str>) -> Candidates {
        if name.contains('/') {
            return Candidates { paths: vec![name.to_owned()], search: false };
        }
        let directories = match name {
            "" | "." | ".." => None,
            _ => path.map(|path| path.split(':')),
        };
        let join = |directory: &str| match directory.trim_end_matches('/') {
            // Only slashes, or nothing at all: the root, or the working directory.
            "" if directory.is_empty() => name.to_owned(),
            "." => name.to_owned(),
            directory => format!("{directory}/{name}"),
        };
        Candidates { paths: directories.into_iter().flatten().map(join).collect(), search: true }
    }
}

impl Candidates {
    /// As crun joins them. In which directory an empty or a relative path is, if it has no PATH, is
    /// for crun to say.
    pub(crate) fn of_crun(
        name: &str,
        cwd: &str,
        path: Option<&str>,
    ) -> Result<Candidates, Unsupported> {
        if name.contains('/') {
            let at = if name.starts_with('/') { name.to_owned() } else { format!("{cwd}/{name}") };
            return Ok(Candidates { paths: vec![at], search: false });
        }
        let path = path.ok_or_else(|| Unsupported::new("the process has no PATH"))?;
        if !path.split(':').all(|directory| directory.starts_with('/')) {
            return Err(Unsupported::new("the process has a PATH with a relative directory"));
        }
        let paths = path.split(':').map(|directory| format!("{directory}/{name}")).collect();
        Ok(Candidates { paths, search: true })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(entries: &[&str]) -> Vec<String> {
        entries.iter().map(|entry| (*entry).to_owned()).collect()
    }

    #[test]
    fn the_last_of_several_survives_and_an_empty_home_does_not() {
        let env = strings(&["A=1", "HOME=/a", "B=2", "A=3", "HOME=", "PATH=/bin", "C="]);
        let prepared = Environment::prepare(&env).unwrap();
        assert_eq!(prepared.entries, ["B=2", "A=3", "PATH=/bin", "C="]);
        assert!(prepared.find_home);
        assert_eq!(prepared.path, Some("/bin"));
        let env = strings(&["HOME=", "HOME=/root", "X=a\nb=c"]);
        let prepared = Environment::prepare(&env).unwrap();
        assert_eq!(prepared.entries, ["HOME=/root", "X=a\nb=c"]);
        assert!(!prepared.find_home && prepared.path.is_none());
    }

    #[test]
    fn crun_puts_one_after_the_other() {
        let env = strings(&["PATH=/a", "A=1", "HOME=", "B=2", "A=3", "PATH=/bin"]);
        let prepared = Environment::put(&env).unwrap();
        assert_eq!(prepared.entries, ["PATH=/bin", "A=3", "HOME=", "B=2"]);
        assert!(!prepared.find_home);
        assert_eq!(prepared.path, Some("/bin"));
        assert!(Environment::put(&strings(&["A=1"])).unwrap().find_home);
        for entry in ["A", "", "=x", "K=a\0b"] {
            assert!(Environment::put(&strings(&["A=1", entry])).is_err(), "{entry:?}");
        }
    }

    #[test]
    fn candidates_of_crun_are_joined_as_they_are() {
        let of = |name: &str, path| Candidates::of_crun(name, "/w", path);
        let paths = |name: &str, path| of(name, path).unwrap().paths;
        assert_eq!(paths("sh", Some("/bin/:/usr/bin")), ["/bin//sh", "/usr/bin/sh"]);
        assert_eq!(paths("../x", None), ["/w/../x"]);
        assert_eq!(paths("/x", None), ["/x"]);
        for path in [None, Some(""), Some("/bin:"), Some(".:/bin")] {
            assert!(of("sh", path).is_err(), "{path:?}");
        }
    }

    #[test]
    fn broken_entries_are_refused_in_runcs_words() {
        for (entry, why) in [
            ("A", "invalid environment variable: missing '='"),
            ("", "invalid environment variable: missing '='"),
            ("=x", "invalid environment variable: name cannot be empty"),
            ("K=a\0b", r#"invalid environment variable "K": contains nul byte (\x00)"#),
        ] {
            let env = strings(&["OK=1", entry]);
            assert_eq!(Environment::prepare(&env), Err(Error::Start(why.to_owned())));
        }
    }

    #[test]
    fn candidates_are_those_of_look_path() {
        let of = |name: &str, path| {
            let found = Candidates::of(name, path);
            (found.paths, found.search)
        };
        let path = Some("/bin:/usr/bin/::.:rel:/");
        let found = strings(&["/bin/sh", "/usr/bin/sh", "sh", "sh", "rel/sh", "/sh"]);
        assert_eq!(of("sh", path), (found, true));
        assert_eq!(of("./sh", path), (strings(&["./sh"]), false));
        assert_eq!(of("sh", None), (vec![], true));
        for name in ["", ".", ".."] {
            assert_eq!(of(name, path), (vec![], true), "{name}");
        }
    }
}
