// SPDX-License-Identifier: Apache-2.0
//! What the node's operator decides for every task, and no client.

use std::fmt;
use std::time::Duration;

use wedge_stdio::LoggerRules;

/// How an exec gets into its container.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ExecPath {
    /// The shim's own way where it makes exactly the process that the OCI runtime would, else the
    /// OCI runtime's.
    #[default]
    Auto,
    /// The shim's own way, or not at all.
    Native,
    /// The OCI runtime's `exec`.
    Runtime,
}

impl ExecPath {
    /// Each of them.
    pub const ALL: [ExecPath; 3] = [ExecPath::Auto, ExecPath::Native, ExecPath::Runtime];
}

/// The name in a configuration.
impl fmt::Display for ExecPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ExecPath::Auto => "auto",
            ExecPath::Native => "native",
            ExecPath::Runtime => "runtime",
        })
    }
}

/// How a container that was created is started, signalled, frozen and deleted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CommandPath {
    /// By the shim, where it does exactly what the runtime would, else by the OCI runtime.
    #[default]
    Auto,
    /// By the OCI runtime.
    Runtime,
}

impl CommandPath {
    /// Each of them.
    pub const ALL: [CommandPath; 2] = [CommandPath::Auto, CommandPath::Runtime];
}

/// The name in a configuration.
impl fmt::Display for CommandPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            CommandPath::Auto => "auto",
            CommandPath::Runtime => "runtime",
        })
    }
}

/// The settings of a shim, the same for all of its tasks from its start to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// How execs get into their containers.
    pub exec: ExecPath,
    /// How commands on their containers are carried out.
    pub commands: CommandPath,
    /// How long one command of the OCI runtime may take before it is killed.
    pub runtime_command: Duration,
    /// How long output may take to reach its reader once a process has ended (containerd #12289).
    /// A child that keeps the stream open would otherwise hold up Delete for ever.
    pub output_drain: Duration,
    /// What logging binaries are held to.
    pub loggers: LoggerRules,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            exec: ExecPath::default(),
            commands: CommandPath::default(),
            runtime_command: Duration::from_secs(300),
            output_drain: Duration::from_secs(10),
            loggers: LoggerRules::default(),
        }
    }
}
