// SPDX-License-Identifier: Apache-2.0
//! Where the helper is.

macro_rules! stages {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Where the helper is; a failure is reported with it. In the order in which they happen.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        #[repr(u32)]
        pub enum Stage { $($(#[$doc])* $name,)* }

        impl Stage {
            /// Every stage, in order.
            pub const ALL: &'static [Stage] = &[$(Stage::$name),*];

            /// The stage with this number.
            pub fn from_number(number: u32) -> Option<Stage> {
                Self::ALL.get(usize::try_from(number).ok()?).copied()
            }
        }
    };
}

stages! {
    /// Reading the plan.
    Plan,
    /// Signal dispositions and mask.
    Signals,
    /// `/proc/self/oom_score_adj`.
    OomScore,
    /// PR_SET_DUMPABLE.
    Dumpable,
    /// Closing descriptors.
    Descriptors,
    /// The CPUs before the cgroup is joined.
    InitialCpus,
    /// Joining cgroups; the text is the file.
    Cgroup,
    /// The CPUs after the cgroup is joined.
    LastCpus,
    /// setns(2).
    Namespaces,
    /// Becoming root of the user namespace.
    NamespaceRoot,
    /// Making the process.
    Clone,
    /// From here on it is the process: setsid(2).
    Session,
    /// The session keyring.
    Keyring,
    /// Opening the terminal.
    Terminal,
    /// Making it the controlling terminal.
    ControllingTerminal,
    /// PR_SET_NO_NEW_PRIVS.
    NoNewPrivs,
    /// sched_setattr(2).
    Scheduler,
    /// ioprio_set(2).
    IoPriority,
    /// personality(2).
    Personality,
    /// Setting the resource limits; the text is the number of the one that failed.
    Limits,
    /// Waiting for the shim to set them.
    Go,
    /// Opening the attribute file of AppArmor.
    AppArmorOpen,
    /// chdir(2).
    WorkingDirectory,
    /// Reading `/etc/passwd`.
    Home,
    /// The bounding set.
    Bounding,
    /// PR_SET_KEEPCAPS.
    KeepCaps,
    /// Owning 0, 1 and 2.
    StandardStreams,
    /// setgroups(2).
    Groups,
    /// setgid(2).
    Gid,
    /// setuid(2).
    Uid,
    /// The working directory is outside of the container.
    CwdOutside,
    /// capset(2).
    Capabilities,
    /// Writing the attribute of AppArmor.
    AppArmor,
    /// No program in PATH.
    NotFound,
    /// stat(2) of the program.
    ProgramStat,
    /// The program is a directory.
    ProgramIsDirectory,
    /// The program may not be executed.
    ProgramAccess,
    /// The program was found in a relative directory.
    ProgramRelative,
    /// Loading the filter.
    Seccomp,
    /// Dropping what loading the filter needed.
    LastCapabilities,
    /// Closing the socket.
    Execute,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_stages_agree() {
        for (number, stage) in Stage::ALL.iter().enumerate() {
            assert_eq!(*stage as usize, number);
            assert_eq!(Stage::from_number(*stage as u32), Some(*stage));
        }
        assert_eq!(Stage::from_number(u32::MAX), None);
    }
}
