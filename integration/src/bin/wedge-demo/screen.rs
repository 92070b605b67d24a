// SPDX-License-Identifier: Apache-2.0
//! What the demo looks like.

use std::io::{IsTerminal, Write, stdout};

use anyhow::{Result, bail};
use wedge_integration::{Cmd, Env, Event, Output};

/// Commands are wrapped there.
const WIDTH: usize = 98;

/// Standard output, with bold headings if it is a terminal.
#[derive(Debug)]
pub(crate) struct Screen {
    bold: bool,
}

impl Screen {
    pub(crate) fn new() -> Screen {
        Screen { bold: stdout().is_terminal() }
    }

    pub(crate) fn heading(&self, text: &str) -> Result<()> {
        self.line("")?;
        self.line(&if self.bold { format!("\x1b[1m{text}\x1b[0m") } else { text.to_owned() })
    }

    #[expect(clippy::unused_self, reason = "nothing else writes there")]
    pub(crate) fn line(&self, text: &str) -> Result<()> {
        Ok(writeln!(stdout(), "{text}")?)
    }

    /// A command as a user would type it in the directory of the demo.
    fn command(&self, program: &str, args: &[&str]) -> Result<()> {
        let mut line = format!("  $ {program}");
        for arg in args {
            let word = quoted(arg);
            if line.len() + word.len() > WIDTH {
                self.line(&format!("{line} \\"))?;
                line = "     ".to_owned();
            }
            line.push(' ');
            line.push_str(&word);
        }
        self.line(&line)
    }

    fn output(&self, out: &Output) -> Result<()> {
        let (stdout, stderr) = (out.text(), out.error_text());
        for line in stdout.lines().chain(stderr.lines()) {
            self.line(&format!("  | {}", line.trim_end()))?;
        }
        Ok(())
    }

    /// All task events, in the order they came.
    pub(crate) fn events(&self, events: &[Event]) -> Result<()> {
        self.line("    seconds  topic                 container  process  pid      exit status")?;
        let Some(first) = events.first() else { bail!("containerd reported no events") };
        for event in events {
            let offset = event.time_of_day.saturating_sub(first.time_of_day).as_secs_f64();
            let process = if event.exec_id.is_empty() { "init" } else { &event.exec_id };
            let pid = if event.pid == 0 { String::new() } else { event.pid.to_string() };
            let ended = ["/tasks/exit", "/tasks/delete"].contains(&event.topic.as_str());
            let status = if ended { event.exit_status.to_string() } else { String::new() };
            let (topic, container) = (&event.topic, &event.container_id);
            let row = format!("{topic:20}  {container:9}  {process:7}  {pid:7}  {status}");
            self.line(format!("    {offset:7.3}  {row}").trim_end())?;
        }
        Ok(())
    }
}

/// As a POSIX shell wants it; `$PWD` is meant to be expanded.
fn quoted(arg: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:$".contains(c);
    if !arg.is_empty() && arg.chars().all(plain) {
        return arg.to_owned();
    }
    format!("'{}'", arg.replace('\'', "'\\''"))
}

/// `ctr` in the directory of the demo: shows what it runs and what comes out.
#[derive(Debug)]
pub(crate) struct Shell<'a> {
    pub(crate) screen: &'a Screen,
    pub(crate) env: &'a Env,
}

impl Shell<'_> {
    /// Shows and runs `ctr args…`, which must end with `code`.
    pub(crate) fn ctr(&self, args: &[&str], code: i32) -> Result<Output> {
        self.screen.command("ctr", args)?;
        let out = self.quiet(args)?;
        self.screen.output(&out)?;
        let seconds = out.took.as_secs_f64();
        self.screen.line(&format!("  exit code {} after {seconds:.2} s", out.code))?;
        if out.code != code {
            bail!("expected exit code {code}: {out}");
        }
        Ok(out)
    }

    /// Runs `ctr args…` without showing it.
    pub(crate) fn quiet(&self, args: &[&str]) -> Result<Output> {
        let dir = self.env.dir();
        let expanded = args.iter().map(|arg| arg.replace("$PWD", &dir.to_string_lossy()));
        let cmd = Cmd::new("ctr").args(expanded).dir(dir);
        let cmd = cmd.env("CONTAINERD_ADDRESS", dir.join("c.sock"));
        let cmd = cmd.env("CONTAINERD_NAMESPACE", self.env.namespace());
        if args.contains(&"--tty") { cmd.terminal().output() } else { cmd.output() }
    }
}
