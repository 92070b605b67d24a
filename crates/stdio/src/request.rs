// SPDX-License-Identifier: Apache-2.0
//! What the client asked for.

use std::path::Path;

use crate::error::Error;
use crate::fifo::Fifo;
use crate::pipe::Pipe;
use crate::prepared::{PipedInput, PipedOutput, Prepared, Streams};

/// The streams of a process as containerd's Create and Exec requests name them. An empty address
/// means `/dev/null`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Request {
    /// Whether the process gets a pty instead of pipes. All its output is then stdout.
    pub terminal: bool,
    /// The path of the stdin fifo.
    pub stdin: String,
    /// The path of the stdout fifo, or a URI. Its scheme decides for stderr too.
    pub stdout: String,
    /// The path of the stderr fifo.
    pub stderr: String,
}

/// Who owns the process's ends of the pipes: the `io_uid` and `io_gid` of the runtime options.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Owner {
    /// User id on the host.
    pub uid: u32,
    /// Group id on the host.
    pub gid: u32,
}

impl Request {
    /// Opens all that the OCI runtime needs to start the process. Does not wait for the client to
    /// open its ends.
    ///
    /// # Errors
    /// For an address that is no fifo or has a scheme that is not served, and when a descriptor
    /// cannot be made. Nothing stays open then.
    pub fn prepare(&self, owner: Owner) -> Result<Prepared, Error> {
        let scheme = Scheme::of(&self.stdout);
        if self.terminal {
            // Go knows only the logging binaries here, and takes anything else for a path.
            return match scheme {
                Ok(Scheme::Logger(scheme)) => Err(Error::Unsupported { scheme }),
                Ok(Scheme::Fifo | Scheme::File) | Err(_) => self.prepare_terminal(),
            };
        }
        match scheme? {
            Scheme::Fifo => self.prepare_pipes(owner),
            Scheme::File => Err(Error::Unsupported { scheme: "file" }),
            Scheme::Logger(scheme) => Err(Error::Unsupported { scheme }),
        }
    }

    fn prepare_terminal(&self) -> Result<Prepared, Error> {
        if self.stdout.is_empty() {
            return Err(Error::NoTerminalOutput);
        }
        let stdin = self.stdin_fifo()?;
        let stdout = Fifo::output(Path::new(&self.stdout))?;
        Ok(Prepared::new(Streams::Terminal { stdin, stdout }))
    }

    fn prepare_pipes(&self, owner: Owner) -> Result<Prepared, Error> {
        let stdin = match self.stdin_fifo()? {
            Some(fifo) => Some(PipedInput { fifo, pipe: Pipe::input(owner)? }),
            None => None,
        };
        let mut outputs = Vec::new();
        for (stream, address) in [("stdout", &self.stdout), ("stderr", &self.stderr)] {
            if !address.is_empty() {
                let fifo = Fifo::output(fifo_path(address))?;
                outputs.push(PipedOutput { stream, fifo, pipe: Pipe::output(stream, owner)? });
            }
        }
        Ok(Prepared::new(Streams::Pipes { stdin, outputs }))
    }

    fn stdin_fifo(&self) -> Result<Option<Fifo>, Error> {
        if self.stdin.is_empty() {
            return Ok(None);
        }
        Fifo::input(Path::new(&self.stdin)).map(Some)
    }
}

/// Where output goes, by the scheme of the stdout address.
#[derive(Debug, PartialEq, Eq)]
enum Scheme {
    /// A fifo: no scheme, or `fifo`.
    Fifo,
    /// A file that is appended to.
    File,
    /// A logging binary, by its scheme `binary` or `binary-v2`.
    Logger(&'static str),
}

impl Scheme {
    /// Finds the scheme where Go's `url.Parse` finds it, so that a path stays a path.
    fn of(address: &str) -> Result<Scheme, Error> {
        let bad_uri = |reason| Error::Uri { uri: address.to_owned(), reason };
        if address.bytes().any(|byte| byte.is_ascii_control()) {
            return Err(bad_uri("net/url: invalid control character in URL"));
        }
        let Some((scheme, _)) = address.split_once(':') else {
            return Ok(Scheme::Fifo);
        };
        if scheme.is_empty() {
            return Err(bad_uri("missing protocol scheme"));
        }
        let first_is_letter = scheme.starts_with(|first: char| first.is_ascii_alphabetic());
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
        if !first_is_letter || !scheme.bytes().all(legal) {
            return Ok(Scheme::Fifo);
        }
        match scheme.to_ascii_lowercase().as_str() {
            "fifo" => Ok(Scheme::Fifo),
            "file" => Ok(Scheme::File),
            "binary" => Ok(Scheme::Logger("binary")),
            "binary-v2" => Ok(Scheme::Logger("binary-v2")),
            other => Err(Error::UnknownScheme { scheme: other.to_owned() }),
        }
    }
}

/// The path in an address with or without the `fifo` scheme.
fn fifo_path(address: &str) -> &Path {
    Path::new(address.strip_prefix("fifo://").unwrap_or(address))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use proptest::prelude::*;

    #[test]
    fn the_scheme_is_found_as_go_finds_it() {
        for path in ["", "/run/x", "/run/a:b", "1:2", "a b:c", "a/b:c", "fifo:///run/x", "FIFO:/x"]
        {
            assert_eq!(Scheme::of(path).unwrap(), Scheme::Fifo, "{path}");
        }
        assert_eq!(Scheme::of("file:///var/log/x").unwrap(), Scheme::File);
        assert_eq!(Scheme::of("Binary:///x?id=1").unwrap(), Scheme::Logger("binary"));
        assert_eq!(Scheme::of("binary-v2:///x").unwrap(), Scheme::Logger("binary-v2"));
    }

    #[test]
    fn other_schemes_are_refused_in_the_words_of_go() {
        let text = |address| Scheme::of(address).unwrap_err().to_string();
        assert_eq!(text("streaming+unix:///x"), "unknown STDIO scheme streaming+unix");
        assert_eq!(text(":x"), "unable to parse stdout uri: parse \":x\": missing protocol scheme");
        assert_eq!(
            text("/a\nb"),
            "unable to parse stdout uri: parse \"/a\\nb\": net/url: invalid control character in URL"
        );
    }

    #[test]
    fn what_is_not_served_yet_is_unimplemented() {
        for (terminal, stdout) in
            [(false, "binary:///x"), (true, "binary:///x"), (false, "file:///x")]
        {
            let request = Request { terminal, stdout: stdout.to_owned(), ..Request::default() };
            let err = request.prepare(Owner::default()).unwrap_err();
            assert_eq!(err.kind(), ErrorKind::Unimplemented, "{stdout}");
        }
    }

    #[test]
    fn a_terminal_needs_an_output_and_takes_a_file_uri_for_a_path() {
        let mut request = Request { terminal: true, ..Request::default() };
        let err = request.prepare(Owner::default()).unwrap_err();
        assert_eq!(err.kind(), ErrorKind::InvalidArgument);
        request.stdout = "file:///nothing/here".to_owned();
        let err = request.prepare(Owner::default()).unwrap_err();
        assert_eq!(err.kind(), ErrorKind::NotFound);
    }

    proptest! {
        #[test]
        fn an_absolute_path_is_always_a_fifo(path in "/[^\\x00-\\x1f\\x7f]*") {
            prop_assert_eq!(Scheme::of(&path).unwrap(), Scheme::Fifo);
            prop_assert_eq!(fifo_path(&path), Path::new(&path));
        }
    }
}
