// SPDX-License-Identifier: Apache-2.0
//! The short-lived process in which libseccomp runs.

use std::error::Error as StdError;
use std::io::{self, Read, Write};
use std::process::ExitCode;

use crate::{Error, compile};

/// The longest profile that is read, in bytes. containerd's default one has 40 KiB.
const MAX_PROFILE: u64 = 1 << 20;

/// Compiles the profile on stdin to the program on stdout ([`crate::Program::encode`]). On failure
/// stdout stays empty and stderr gets one line that says why.
#[must_use]
pub fn compile_stdin() -> ExitCode {
    let result = run(io::stdin().lock(), &mut io::stdout().lock());
    ExitCode::from(report(result, &mut io::stderr().lock()))
}

fn run(input: impl Read, output: &mut impl Write) -> Result<(), Error> {
    let mut profile = Vec::new();
    input
        .take(MAX_PROFILE + 1)
        .read_to_end(&mut profile)
        .map_err(|source| Error::Io { operation: "read the seccomp profile", source })?;
    if u64::try_from(profile.len()).is_ok_and(|len| len > MAX_PROFILE) {
        return Err(Error::ProfileTooLong { limit: MAX_PROFILE });
    }
    let program = compile(&profile)?.encode();
    let written = output.write_all(&program).and_then(|()| output.flush());
    written.map_err(|source| Error::Io { operation: "write the seccomp program", source })
}

fn report(result: Result<(), Error>, errors: &mut impl Write) -> u8 {
    let Err(err) = result else { return 0 };
    let mut line = err.to_string();
    let mut cause = err.source();
    while let Some(err) = cause {
        line = format!("{line}: {err}");
        cause = err.source();
    }
    // Without a reader of stderr there is still the exit code.
    writeln!(errors, "{line}").ok();
    1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Program;

    fn call(input: impl Read) -> (Vec<u8>, String, u8) {
        let (mut output, mut errors) = (Vec::new(), Vec::new());
        let code = report(run(input, &mut output), &mut errors);
        (output, String::from_utf8(errors).unwrap(), code)
    }

    #[test]
    fn a_profile_becomes_a_program() {
        let (output, errors, code) = call(&br#"{"default_action":4}"#[..]);
        assert_eq!((errors.as_str(), code), ("", 0));
        assert_eq!(Program::decode(&output).unwrap().flags(), 0);
    }

    #[test]
    fn what_cannot_be_compiled_is_told_in_a_line() {
        let refused = [
            (r#"{"default_action":7}"#, "seccomp action \"7\" is not supported\n"),
            (
                r#"{"default_action":4,"listener_path":"/s"}"#,
                "seccomp listener \"/s\" is not supported\n",
            ),
            (
                r#"{"default_action":4,"new":1}"#,
                "unknown form of seccomp profile: unknown field `new`",
            ),
            ("null", "unknown form of seccomp profile: invalid type: null"),
        ];
        for (profile, text) in refused {
            let (output, errors, code) = call(profile.as_bytes());
            assert!(errors.starts_with(text), "{errors}");
            assert_eq!((output.len(), errors.lines().count(), code), (0, 1, 1), "{profile}");
        }
        let (output, errors, code) = call(&b"{"[..]);
        assert!(errors.starts_with("cannot parse the seccomp profile: EOF"), "{errors}");
        assert_eq!((output.len(), code), (0, 1));
        let (output, errors, code) = call(io::repeat(b' '));
        assert_eq!(errors, "seccomp profile of more than 1048576 bytes\n");
        assert_eq!((output.len(), code), (0, 1));
    }
}
