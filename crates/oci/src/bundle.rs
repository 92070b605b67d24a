// SPDX-License-Identifier: Apache-2.0
//! The directory containerd prepares for one container, and the names in it.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result, on_path};
use crate::options::Options;

/// A bundle directory: the only place that knows the names of the files in it.
///
/// Names that contain an exec id take it as it is: the caller has checked that it is an
/// identifier in containerd's sense (letters, digits, and `.`, `_`, `-` inside).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle {
    dir: PathBuf,
}

impl Bundle {
    /// The bundle in directory `dir`, an absolute path. Nothing is read or checked.
    pub fn new(dir: impl Into<PathBuf>) -> Bundle {
        Bundle { dir: dir.into() }
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The OCI runtime spec, written by containerd. It may be missing.
    pub fn config(&self) -> PathBuf {
        self.dir.join("config.json")
    }

    /// Where the root file system is mounted.
    pub fn rootfs(&self) -> PathBuf {
        self.dir.join("rootfs")
    }

    /// containerd's link to the container's directory on disk.
    pub fn work(&self) -> PathBuf {
        self.dir.join("work")
    }

    /// The pid of the container's init, written by the runtime.
    pub fn init_pid(&self) -> PathBuf {
        self.dir.join("init.pid")
    }

    /// The pid of an exec'd process, written by the runtime.
    ///
    /// An exec named "init" would overwrite the init's file, so its file gets a name that no other
    /// id leads to, neither here nor as the runtime's temporary `.<name>`: ids have no colon.
    pub fn exec_pid(&self, exec_id: &str) -> PathBuf {
        match exec_id {
            "init" => self.dir.join("exec:init.pid"),
            id => self.dir.join(format!("{id}.pid")),
        }
    }

    /// The runtime's log of create, where tools look for it.
    pub fn log_json(&self) -> PathBuf {
        self.dir.join("log.json")
    }

    /// The runtime's log of one other call.
    pub fn call_log(&self, n: u64) -> PathBuf {
        self.dir.join(format!("log-{n}.json"))
    }

    /// The process spec handed to one `exec` of the runtime.
    pub(crate) fn call_process(&self, n: u64) -> PathBuf {
        self.dir.join(format!("process-{n}.json"))
    }

    /// The options the container was created with.
    pub fn options_json(&self) -> PathBuf {
        self.dir.join("options.json")
    }

    /// The name of the runtime binary, as given in the options.
    pub fn runtime(&self) -> PathBuf {
        self.dir.join("runtime")
    }

    /// The shim's socket address (containerd before 2.0).
    pub fn address(&self) -> PathBuf {
        self.dir.join("address")
    }

    /// CRIU's working directory for a checkpoint that names none.
    pub fn criu_work(&self) -> PathBuf {
        self.work().join("criu-work")
    }

    /// CRIU's log of a checkpoint that failed.
    pub fn criu_log(&self) -> PathBuf {
        self.dir.join("criu-dump.log")
    }

    /// The symbolic link to the directory of the shim's sockets, when the daemon chose one.
    pub fn socket_dir(&self) -> PathBuf {
        self.dir.join("s")
    }

    /// The fifo of the shim's own log.
    pub fn log_fifo(&self) -> PathBuf {
        self.dir.join("log")
    }

    /// Writes `options.json`, mode 0600, for the `delete` action.
    ///
    /// # Errors
    /// [`Error::Path`] of the call that failed.
    pub fn write_options(&self, options: &Options) -> Result<()> {
        let path = self.options_json();
        let json = serde_json::to_vec(options)
            .map_err(|cause| Error::Json { path: path.clone(), cause })?;
        write(&path, &json)
    }

    /// Writes the name of the runtime binary, mode 0600, for the `delete` action.
    ///
    /// # Errors
    /// [`Error::Path`] of the call that failed.
    pub fn write_runtime(&self, binary: &str) -> Result<()> {
        write(&self.runtime(), binary.as_bytes())
    }

    /// Reads `options.json`; `None` when there is none.
    ///
    /// # Errors
    /// [`Error::Path`] when it cannot be read, [`Error::Json`] when it is no options file.
    pub fn read_options(&self) -> Result<Option<Options>> {
        let path = self.options_json();
        let Some(text) = read(&path)? else {
            return Ok(None);
        };
        serde_json::from_str(&text).map(Some).map_err(|cause| Error::Json { path, cause })
    }

    /// Reads the name of the runtime binary, possibly empty; `None` when the file is missing
    /// (containerd #11043).
    ///
    /// # Errors
    /// [`Error::Path`] when it cannot be read.
    pub fn read_runtime(&self) -> Result<Option<String>> {
        read(&self.runtime())
    }

    /// Reads a pid file.
    ///
    /// # Errors
    /// [`Error::Path`] when it cannot be read, [`Error::Number`] when it holds no pid.
    pub fn read_pid(&self, path: &Path) -> Result<u32> {
        let text = fs::read_to_string(path).map_err(on_path("open", path))?;
        match text.trim().parse() {
            Ok(pid @ 1..) => Ok(pid),
            Ok(0) | Err(_) => Err(Error::Number { text }),
        }
    }

    /// Removes a pid file and the temporary one beside it that a killed runtime leaves: runc
    /// creates `.<name>` with O_EXCL, so a left-over makes every later try fail.
    ///
    /// # Errors
    /// [`Error::Path`] when one exists and cannot be removed.
    pub fn remove_pid(&self, path: &Path) -> Result<()> {
        for path in [path, &hidden(path)] {
            match fs::remove_file(path) {
                Err(err) if err.kind() != io::ErrorKind::NotFound => {
                    return Err(on_path("remove", path)(err));
                }
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }
}

/// `.<name>` in the same directory.
fn hidden(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}"))
}

/// Makes the file appear whole or not at all: `delete` may read it at any time.
fn write(path: &Path, content: &[u8]) -> Result<()> {
    let temporary = hidden(path);
    write_private(&temporary, content)?;
    fs::rename(&temporary, path).map_err(on_path("rename", path))
}

/// Writes a file that only its owner can read.
pub(crate) fn write_private(path: &Path, content: &[u8]) -> Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = options.open(path).map_err(on_path("open", path))?;
    file.write_all(content).map_err(on_path("write", path))
}

fn read(path: &Path) -> Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(err) => Err(on_path("open", path)(err)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn bundle() -> (tempfile::TempDir, Bundle) {
        let dir = tempfile::tempdir().unwrap();
        let bundle = Bundle::new(dir.path());
        (dir, bundle)
    }

    #[test]
    fn options_and_runtime_survive_and_are_private() {
        let (_dir, bundle) = bundle();
        let options = Options { root: "/r".to_owned(), systemd_cgroup: true, ..Options::default() };
        bundle.write_options(&options).unwrap();
        bundle.write_runtime("crun").unwrap();
        assert_eq!(bundle.read_options().unwrap(), Some(options));
        assert_eq!(bundle.read_runtime().unwrap().as_deref(), Some("crun"));
        for path in [bundle.options_json(), bundle.runtime()] {
            assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o7777, 0o600);
        }
        assert_eq!(fs::read_dir(bundle.dir()).unwrap().count(), 2, "no temporary file is left");
    }

    #[test]
    fn missing_files_are_no_error_and_broken_ones_are() {
        let (_dir, bundle) = bundle();
        assert_eq!(bundle.read_options().unwrap(), None);
        assert_eq!(bundle.read_runtime().unwrap(), None);
        fs::write(bundle.options_json(), "{").unwrap();
        assert!(matches!(bundle.read_options(), Err(Error::Json { .. })));
    }

    #[test]
    fn pid_files_of_any_runtime_are_read_and_others_refused() {
        let (_dir, bundle) = bundle();
        let path = bundle.init_pid();
        for (text, pid) in
            [("42", Some(42)), ("42\n", Some(42)), ("", None), ("0", None), ("x", None)]
        {
            fs::write(&path, text).unwrap();
            assert_eq!(bundle.read_pid(&path).ok(), pid, "{text:?}");
        }
    }

    #[test]
    fn an_exec_named_init_does_not_touch_the_inits_pid_file() {
        let bundle = Bundle::new("/b");
        assert_eq!(bundle.exec_pid("one"), Path::new("/b/one.pid"));
        assert_ne!(bundle.exec_pid("init"), bundle.init_pid());
    }

    #[test]
    fn a_left_over_of_a_killed_runtime_is_removed_too() {
        let (_dir, bundle) = bundle();
        fs::write(bundle.dir().join(".init.pid"), "").unwrap();
        fs::write(bundle.init_pid(), "1").unwrap();
        bundle.remove_pid(&bundle.init_pid()).unwrap();
        bundle.remove_pid(&bundle.init_pid()).unwrap();
        assert_eq!(fs::read_dir(bundle.dir()).unwrap().count(), 0);
    }
}
