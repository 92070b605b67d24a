// SPDX-License-Identifier: Apache-2.0
//! What a command left behind, with assertions that print all of it when they fail.

use std::fmt;
use std::time::Duration;

/// The result of a finished command.
#[derive(Debug, Clone)]
pub struct Output {
    /// The command line, for messages.
    pub command: String,
    /// The exit code; 128 + signal when a signal ended the command.
    pub code: i32,
    /// All of its standard output (of a command on a terminal: what the terminal showed).
    pub stdout: Vec<u8>,
    /// All of its standard error.
    pub stderr: Vec<u8>,
    /// From spawn to exit.
    pub took: Duration,
}

impl Output {
    /// Standard output as text; bytes that are not UTF-8 are replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Standard error as text; bytes that are not UTF-8 are replaced.
    pub fn error_text(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }

    /// Asserts exit code 0.
    #[track_caller]
    pub fn assert_ok(&self) -> &Output {
        self.assert_code(0)
    }

    /// Asserts the exit code.
    #[track_caller]
    pub fn assert_code(&self, code: i32) -> &Output {
        assert!(self.code == code, "expected exit code {code}\n{self}");
        self
    }

    /// Asserts the whole standard output.
    #[track_caller]
    pub fn assert_stdout(&self, text: &str) -> &Output {
        assert!(self.text() == text, "expected standard output {text:?}\n{self}");
        self
    }

    /// Asserts the whole standard error.
    #[track_caller]
    pub fn assert_stderr(&self, text: &str) -> &Output {
        assert!(self.error_text() == text, "expected standard error {text:?}\n{self}");
        self
    }

    /// Asserts a failure whose standard error contains `text`.
    #[track_caller]
    pub fn assert_error(&self, text: &str) -> &Output {
        let met = self.code != 0 && self.error_text().contains(text);
        assert!(met, "expected a failure with {text:?}\n{self}");
        self
    }
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Output { command, code, took, .. } = self;
        writeln!(f, "$ {command}\nexit code {code} after {took:?}")?;
        writeln!(f, "stdout: {}\nstderr: {}", cut(&self.text()), cut(&self.error_text()))
    }
}

/// Keeps the end of a long text: that is where errors are.
fn cut(text: &str) -> String {
    const KEEP: usize = 4000;
    let total = text.chars().count();
    let tail: String = text.chars().skip(total.saturating_sub(KEEP)).collect();
    if total > KEEP { format!("[{total} characters] …{tail}") } else { tail }
}
