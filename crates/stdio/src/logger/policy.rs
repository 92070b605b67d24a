// SPDX-License-Identifier: Apache-2.0
//! Which programs may be logging binaries.
//!
//! The shim runs them as root, and who chooses the path is not always root: CVE-2026-53488 was a
//! log URI that came from an image's label. So a program must be one that only root could have
//! put where it is. That also makes the check free of races: between it and the exec, only root
//! can change any part of the path.
//!
//! Who owns it does not tell who wrote it: what an image brings along, and what root of a container
//! writes to its rootfs or a volume, is root's too. So it must also be where the host's programs are.
//! What an operator allows beyond that is the operator's to keep safe.
//!
//! That limits the program, not its arguments, which are whose choice the path is: an interpreter
//! of the host's runs what it is told to. Only a list of programs ([`LoggerPolicy::programs`]) is
//! proof against that, and which they are only the operator knows.

use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use crate::error::Error;

/// As many symbolic links as the kernel follows, path_resolution(7).
const MAX_LINKS: usize = 40;

/// Where the host's programs are, and no container's files or volumes: they are elsewhere, in
/// /opt, too.
const PROGRAMS: [&str; 3] = ["/usr", "/bin", "/sbin"];

/// Which programs may be logging binaries. The default is the narrowest policy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LoggerPolicy {
    /// Whatever a client names is run, as by containerd's own shim.
    pub allow_unsafe_paths: bool,
    /// Users, beside root, who may own the program and what leads to it. A rootless shim sees the
    /// host's root as the overflow user, 65534 (user_namespaces(7)).
    pub allowed_owners: Vec<u32>,
    /// Directories, absolute and without symbolic links, whose programs are allowed whoever owns
    /// them or can write to them.
    pub allowed_directories: Vec<PathBuf>,
    /// Programs, absolute and without symbolic links, that are allowed wherever they are and whoever
    /// owns them. If there are any, nothing else is.
    pub programs: Vec<PathBuf>,
}

impl LoggerPolicy {
    /// The policy, for each file, directory and symbolic link a path leads through. Says what is
    /// wrong.
    fn decide(&self, found: &Metadata) -> Result<(), &'static str> {
        if found.uid() != 0 && !self.allowed_owners.contains(&found.uid()) {
            return Err("is not owned by root");
        }
        // A link's own mode means nothing. An ACL that grants writing shows as the group's.
        if !found.is_symlink() && found.mode() & 0o022 != 0 {
            return Err("is writable by others than root");
        }
        Ok(())
    }

    /// Whether a program is allowed in spite of where it is and what is wrong on the way to it.
    fn trusts(&self, resolved: &Path) -> bool {
        self.allow_unsafe_paths
            || self.allowed_directories.iter().any(|dir| resolved.starts_with(dir))
            || self.is_named(resolved)
    }

    fn is_named(&self, resolved: &Path) -> bool {
        self.programs.iter().any(|program| resolved == program)
    }

    /// Whether a program is not one of those that are the only ones.
    fn is_left_out(&self, resolved: &Path) -> bool {
        !self.programs.is_empty() && !self.is_named(resolved)
    }

    /// The path of the program without symbolic links, when the policy allows it.
    pub(super) fn resolve(&self, program: &Path) -> Result<PathBuf, Error> {
        let failed = |source| Error::LoggerStart { path: program.to_owned(), source };
        let refused = |(at, why): Flaw| Error::LoggerRefused { path: program.to_owned(), at, why };
        let mut flaw = None;
        let resolved = match (self.walk(program, &mut flaw), flaw) {
            (Ok(resolved), _) if self.is_left_out(&resolved) => {
                return Err(refused((resolved, "is not one of logger.programs")));
            }
            (Ok(resolved), _) if self.trusts(&resolved) => resolved,
            (_, Some(flaw)) => return Err(refused(flaw)),
            (Err(source), None) => return Err(failed(source)),
            (Ok(resolved), None) if PROGRAMS.iter().any(|dir| resolved.starts_with(dir)) => {
                resolved
            }
            (Ok(resolved), None) => {
                return Err(refused((resolved, "is not in /usr, /bin or /sbin")));
            }
        };
        if !fs::symlink_metadata(&resolved).map_err(failed)?.is_file() {
            return Err(refused((resolved, "is not a regular file")));
        }
        Ok(resolved)
    }

    /// Follows a path to its end, and notes the first thing on the way that is not allowed.
    fn walk(&self, program: &Path, flaw: &mut Option<Flaw>) -> io::Result<PathBuf> {
        let mut check = |at: &Path, found: &Metadata| {
            if flaw.is_none()
                && let Err(why) = self.decide(found)
            {
                *flaw = Some((at.to_owned(), why));
            }
        };
        let mut resolved = PathBuf::from("/");
        let mut rest = names(program);
        let mut links = 0;
        check(&resolved, &fs::symlink_metadata(&resolved)?);
        while let Some(name) = rest.pop() {
            if name == ".." {
                resolved.pop();
                continue;
            }
            let next = resolved.join(&name);
            let found = fs::symlink_metadata(&next)?;
            check(&next, &found);
            if !found.is_symlink() {
                resolved = next;
                continue;
            }
            links += 1;
            if links > MAX_LINKS {
                return Err(io::Error::from_raw_os_error(libc::ELOOP));
            }
            let target = fs::read_link(&next)?;
            if target.is_absolute() {
                resolved = PathBuf::from("/");
            }
            rest.extend(names(&target));
        }
        Ok(resolved)
    }
}

/// Where the policy is not met, and how.
type Flaw = (PathBuf, &'static str);

/// The names of a path, the first one last.
fn names(path: &Path) -> Vec<OsString> {
    let name = |component: Component<'_>| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    };
    path.components().rev().filter_map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use std::os::unix::fs::{PermissionsExt, chown, symlink};

    /// A directory of programs that only root can write to, with a program in it.
    fn place() -> (tempfile::TempDir, PathBuf) {
        place_in("/usr/local/lib")
    }

    fn place_in(parent: &str) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir_in(parent).unwrap();
        let program = dir.path().join("logger");
        fs::write(&program, "#!/bin/sh\n").unwrap();
        mode(&program, 0o755);
        (dir, program)
    }

    fn mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn resolve(program: &Path) -> Result<PathBuf, Error> {
        LoggerPolicy::default().resolve(program)
    }

    fn refusal(program: &Path, at: &Path, why: &str) {
        refusal_of(&LoggerPolicy::default(), program, at, why);
    }

    fn refusal_of(policy: &LoggerPolicy, program: &Path, at: &Path, why: &str) {
        let err = policy.resolve(program).unwrap_err();
        assert_eq!(err.kind(), ErrorKind::InvalidArgument, "{err}");
        let text = format!("failed to start binary process: {program:?} is refused: {at:?} {why}");
        assert_eq!(err.to_string(), text);
    }

    #[test]
    fn a_program_of_roots_is_found_behind_links_of_roots() {
        let (dir, program) = place();
        assert_eq!(resolve(&program).unwrap(), program);
        let (absolute, relative) = (dir.path().join("absolute"), dir.path().join("relative"));
        symlink(&program, &absolute).unwrap();
        symlink("./x/../absolute", &relative).unwrap();
        fs::create_dir(dir.path().join("x")).unwrap();
        mode(&dir.path().join("x"), 0o755);
        assert_eq!(resolve(&relative).unwrap(), program);
        assert_eq!(resolve(&dir.path().join("x/../../../.././/").join(&program)).unwrap(), program);
        assert_eq!(resolve(&program.join("..").join("logger")).unwrap(), program);
    }

    #[test]
    fn what_others_own_or_can_write_is_refused() {
        let (dir, program) = place();
        for bits in [0o775, 0o757, 0o777, 0o1777] {
            mode(&program, bits);
            refusal(&program, &program, "is writable by others than root");
        }
        mode(&program, 0o755);
        chown(&program, Some(1000), None).unwrap();
        refusal(&program, &program, "is not owned by root");
        chown(&program, Some(0), None).unwrap();
        for bits in [0o775, 0o1777] {
            mode(dir.path(), bits);
            refusal(&program, dir.path(), "is writable by others than root");
        }
        mode(dir.path(), 0o755);
        chown(dir.path(), Some(1000), None).unwrap();
        refusal(&program, dir.path(), "is not owned by root");
        refusal(dir.path(), dir.path(), "is not owned by root");
    }

    /// An image's files are root's, 0755, and so is all that leads to them.
    #[test]
    fn a_program_of_roots_must_be_where_programs_are() {
        const ELSEWHERE: &str = "is not in /usr, /bin or /sbin";
        let (dir, planted) = place_in("/var/lib");
        refusal(&planted, &planted, ELSEWHERE);
        // Nor by way of a good place, nor of what the kernel knows of the shim.
        let (good, program) = place();
        symlink(&planted, good.path().join("link")).unwrap();
        refusal(&good.path().join("link"), &planted, ELSEWHERE);
        let proc = Path::new("/proc/self/root").join(planted.strip_prefix("/").unwrap());
        refusal(&proc, &planted, ELSEWHERE);
        // What looks like one is none, and one may be reached from elsewhere.
        let twin = tempfile::Builder::new().prefix("usr").tempdir_in("/").unwrap();
        fs::copy(&program, twin.path().join("logger")).unwrap();
        mode(twin.path(), 0o755);
        refusal(&twin.path().join("logger"), &twin.path().join("logger"), ELSEWHERE);
        symlink(&program, dir.path().join("there")).unwrap();
        assert_eq!(resolve(&dir.path().join("there")).unwrap(), program);
        let allowed_directories = vec![dir.path().to_owned()];
        let policy = LoggerPolicy { allowed_directories, ..LoggerPolicy::default() };
        assert_eq!(policy.resolve(&planted).unwrap(), planted);
    }

    #[test]
    fn a_link_does_not_hide_where_it_leads_nor_where_it_is() {
        let (dir, program) = place();
        let (hole, link) = (dir.path().join("hole"), dir.path().join("link"));
        fs::create_dir(&hole).unwrap();
        mode(&hole, 0o1777);
        // A good name for a bad place, and a bad place with a link to a good program.
        symlink(&hole, &link).unwrap();
        refusal(&link.join("x"), &hole, "is writable by others than root");
        symlink(&program, hole.join("x")).unwrap();
        refusal(&hole.join("x"), &hole, "is writable by others than root");
        refusal(&hole.join("../logger"), &hole, "is writable by others than root");
        let owned = dir.path().join("owned");
        symlink(&program, &owned).unwrap();
        std::os::unix::fs::lchown(&owned, Some(1000), None).unwrap();
        refusal(&owned, &owned, "is not owned by root");
    }

    #[test]
    fn what_is_no_program_is_an_error() {
        let (dir, program) = place();
        refusal(dir.path(), dir.path(), "is not a regular file");
        refusal(Path::new("/usr"), Path::new("/usr"), "is not a regular file");
        let circle = dir.path().join("circle");
        symlink("circle", &circle).unwrap();
        for missing in [&circle, &dir.path().join("missing"), &program.join("x")] {
            let err = resolve(missing).unwrap_err();
            let start =
                format!("failed to start binary process: fork/exec {}: ", missing.display());
            assert!(err.to_string().starts_with(&start), "{err}");
        }
    }

    #[test]
    fn an_allowed_owner_is_as_good_as_root_and_no_better() {
        let (dir, program) = place();
        let policy = LoggerPolicy { allowed_owners: vec![1000], ..LoggerPolicy::default() };
        chown(dir.path(), Some(1000), None).unwrap();
        chown(&program, Some(1000), None).unwrap();
        assert_eq!(policy.resolve(&program).unwrap(), program);
        mode(&program, 0o775);
        refusal_of(&policy, &program, &program, "is writable by others than root");
        mode(&program, 0o755);
        chown(&program, Some(1001), None).unwrap();
        refusal_of(&policy, &program, &program, "is not owned by root");
    }

    /// What counts is where the program is, not the name it was called by.
    #[test]
    fn an_allowed_directory_holds_for_what_is_really_in_it() {
        let (dir, program) = place();
        let (hole, twin) = (dir.path().join("hole"), dir.path().join("hole2"));
        for at in [&hole, &twin] {
            fs::create_dir(at).unwrap();
            mode(at, 0o1777);
            fs::copy(&program, at.join("planted")).unwrap();
            chown(at.join("planted"), Some(1000), None).unwrap();
        }
        let allowed_directories = vec!["/nonexistent".into(), hole.clone()];
        let policy = LoggerPolicy { allowed_directories, ..LoggerPolicy::default() };
        let planted = hole.join("planted");
        assert_eq!(policy.resolve(&planted).unwrap(), planted);
        assert_eq!(policy.resolve(&program).unwrap(), program);
        let link = twin.join("link");
        symlink(&planted, &link).unwrap();
        assert_eq!(policy.resolve(&link).unwrap(), planted);
        // Neither a name that begins alike, nor a way out of it, is in it.
        let refused = |path: &Path, at| {
            refusal_of(&policy, path, at, "is writable by others than root");
        };
        refused(&twin.join("planted"), &twin);
        refused(&hole.join("../hole2/planted"), &hole);
        symlink(twin.join("planted"), hole.join("out")).unwrap();
        refused(&hole.join("out"), &hole);
        refused(&hole.join("missing"), &hole);
        refusal_of(&policy, &hole, &hole, "is not a regular file");
    }

    /// An interpreter does what its arguments say, so that only a list is proof.
    #[test]
    fn a_list_of_programs_is_the_only_one() {
        let (dir, program) = place_in("/var/lib");
        let shell = fs::canonicalize("/bin/sh").unwrap();
        let policy = LoggerPolicy { programs: vec![program.clone()], ..LoggerPolicy::default() };
        assert_eq!(policy.resolve(&program).unwrap(), program);
        chown(dir.path(), Some(1000), None).unwrap();
        assert_eq!(policy.resolve(&program).unwrap(), program);
        let text = "is not one of logger.programs";
        refusal_of(&policy, Path::new("/bin/sh"), &shell, text);
        let wide = LoggerPolicy { allow_unsafe_paths: true, ..policy };
        refusal_of(&wide, Path::new("/bin/sh"), &shell, text);
    }

    #[test]
    fn with_unsafe_paths_any_program_is_run() {
        let (dir, program) = place();
        let policy = LoggerPolicy { allow_unsafe_paths: true, ..LoggerPolicy::default() };
        mode(dir.path(), 0o1777);
        mode(&program, 0o777);
        chown(&program, Some(1000), None).unwrap();
        assert_eq!(policy.resolve(&program).unwrap(), program);
        refusal_of(&policy, dir.path(), dir.path(), "is not a regular file");
    }
}
