// SPDX-License-Identifier: Apache-2.0
//! One exec as bytes for the helper: the process merged with its container, by the runtime's rules.

use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;

use wedge_setns_wire::{Encoder, Header, flags};

use crate::affinity::{self, AffinityError, CpuSet, ExecCpuAffinity, Last};
use crate::capabilities::Masks;
use crate::container::Container;
use crate::crun::Crun;
use crate::environment::{Candidates, Environment};
use crate::error::{Error, Failure, Unsupported};
use crate::host::Host;
use crate::limits::{self, Limit};
use crate::namespaces::NEW_USER;
use crate::process::Process;

/// What one exec needs.
#[derive(Debug)]
pub(crate) struct Plan<'a> {
    container: &'a Container,
    process: &'a Process,
    environment: Environment<'a>,
    candidates: Candidates,
    capabilities: Masks,
    scheduler: Vec<u8>,
    io_priority: Option<i32>,
    umask: Option<u32>,
    apparmor: &'a str,
    cpus: affinity::Plan,
    pub(crate) limits: Vec<Limit>,
    /// Flags of the namespaces to join now.
    namespaces: u32,
}

impl<'a> Plan<'a> {
    pub(crate) fn new(
        host: &Host,
        container: &'a Container,
        process: &'a Process,
        namespaces: u32,
    ) -> Result<Plan<'a>, Failure> {
        if let Some(crun) = &container.crun {
            return Plan::of_crun(host, (container, crun), process, namespaces);
        }
        check(host, process, &process.apparmor_profile)?;
        let limits = limits::parse(process.rlimits.as_deref().unwrap_or_default())?;
        let cpus = cpus(container, process)?;
        let environment = Environment::prepare(process.env.as_deref().unwrap_or_default())?;
        let program = process.args().first().map_or("", String::as_str);
        let own = process.capabilities.as_ref().map(|sets| Masks::of(sets, host.last_cap));
        // runc 1.1 then drops all, later ones touch none.
        let capabilities = own.or(container.capabilities).ok_or_else(|| {
            Unsupported::new("neither the process nor its container has capabilities set")
        })?;
        let scheduler = process.scheduler.as_ref().or(container.scheduler.as_ref());
        let io_priority = process.io_priority.as_ref().or(container.io_priority.as_ref());
        Ok(Plan {
            container,
            process,
            candidates: Candidates::of(program, environment.path),
            environment,
            capabilities,
            scheduler: scheduler.map_or(Ok(Vec::new()), |scheduler| scheduler.attributes())?,
            io_priority: io_priority.map(|priority| priority.value()).transpose()?,
            umask: container.umask,
            apparmor: &process.apparmor_profile,
            cpus,
            limits,
            namespaces,
        })
    }

    fn of_crun(
        host: &Host,
        (container, crun): (&'a Container, &'a Crun),
        process: &'a Process,
        namespaces: u32,
    ) -> Result<Plan<'a>, Failure> {
        let own = process.apparmor_profile.as_str();
        let apparmor = if own.is_empty() { &crun.apparmor } else { own };
        check(host, process, apparmor)?;
        let limits = limits::parse(process.rlimits.as_deref().unwrap_or_default());
        let limits = limits.map_err(|err| Unsupported::new(err.to_string()))?;
        let environment = Environment::put(process.env.as_deref().unwrap_or_default())?;
        let program = process.args().first().map_or("", String::as_str);
        let own = process.capabilities.as_ref();
        let own = own.map(|sets| Masks::exact(sets, host.last_cap)).transpose()?;
        Ok(Plan {
            container,
            process,
            candidates: Candidates::of_crun(program, &process.cwd, environment.path)?,
            environment,
            capabilities: own.or(container.capabilities).unwrap_or_default(),
            scheduler: Vec::new(),
            io_priority: None,
            umask: process.user.umask.or(container.umask),
            apparmor,
            cpus: affinity::Plan { initial: None, last: Last::Reset },
            limits,
            namespaces,
        })
    }

    /// The cgroup that the process may be born in. An initial CPU mask is set before: it need not be
    /// one the cgroup's CPU set allows.
    pub(crate) fn birthplace(&self) -> Option<&OwnedFd> {
        self.container.cgroups.directory().filter(|_| self.cpus.initial.is_none())
    }

    /// Whether the process waits until its limits are set from outside.
    fn held(&self) -> bool {
        self.namespaces & NEW_USER != 0 && !self.limits.is_empty()
    }

    /// The bytes. With `join`, the helper joins the container's cgroups itself.
    pub(crate) fn encode(&self, host: &Host, join: bool) -> Result<Vec<u8>, Failure> {
        let mut body = Encoder::new();
        let (procs, any) = match join {
            true => self.container.cgroups.procs(self.container.init_pid),
            false => (Vec::new(), false),
        };
        let procs = procs.iter().map(|path| path.as_os_str().as_bytes());
        let header = Header {
            flags: self.flags(any),
            namespaces: self.namespaces,
            last_cap: host.last_cap,
            failpoint: host.failpoint(),
            cgroups: body.table(procs, 0),
            ..Header::default()
        };
        let header = self.identity(header, &mut body);
        let header = self.attributes(header, &mut body);
        let header = self.program(header, &mut body);
        let plan = body.finish(header);
        plan.ok_or_else(|| Unsupported::new("arguments and environment are too long").into())
    }

    fn identity(&self, header: Header, body: &mut Encoder) -> Header {
        let user = &self.process.user;
        let masks = self.capabilities;
        let groups = user.additional_gids.as_deref().unwrap_or_default();
        let groups: Vec<u8> = groups.iter().flat_map(|gid| gid.to_ne_bytes()).collect();
        Header {
            uid: user.uid,
            gid: user.gid,
            groups: body.bytes(&groups),
            bounding: masks.bounding,
            effective: masks.effective,
            permitted: masks.permitted,
            inheritable: masks.inheritable,
            ambient: masks.ambient,
            ..header
        }
    }

    fn attributes(&self, header: Header, body: &mut Encoder) -> Header {
        let container = self.container;
        let initial = self.cpus.initial.as_ref().map(CpuSet::to_bytes).unwrap_or_default();
        let last = match &self.cpus.last {
            Last::Keep => Vec::new(),
            Last::Set(set) => set.to_bytes(),
            Last::Reset => CpuSet::all().to_bytes(),
        };
        let keyring = container.keyring.as_deref().unwrap_or_default();
        let limits = if self.held() { Vec::new() } else { limits::encode(&self.limits) };
        Header {
            oom_score_adj: container.oom_score_adj.unwrap_or_default(),
            umask: self.umask.unwrap_or_default(),
            personality: container.personality.unwrap_or_default(),
            io_priority: self.io_priority.unwrap_or_default(),
            scheduler: body.bytes(&self.scheduler),
            initial_cpus: body.bytes(&initial),
            last_cpus: body.bytes(&last),
            keyring: body.string(keyring.as_bytes()),
            limits: body.bytes(&limits),
            ..header
        }
    }

    fn program(&self, header: Header, body: &mut Encoder) -> Header {
        let process = self.process;
        let size = process.console_size.as_ref();
        // runc converts to 16 bits, and Go cuts off what is above.
        let cut = |size: u32| size & 0xffff;
        let filter = self.container.seccomp.as_ref();
        let room = usize::from(self.environment.find_home);
        Header {
            rows: size.map_or(0, |size| cut(size.height)),
            columns: size.map_or(0, |size| cut(size.width)),
            apparmor: body.string(self.apparmor.as_bytes()),
            seccomp_flags: filter.map_or(0, |filter| filter.flags()),
            seccomp: body.bytes(filter.map_or(&[], |filter| filter.filter())),
            cwd: body.string(process.cwd.as_bytes()),
            candidates: body.table(&self.candidates.paths, 0),
            arguments: body.table(process.args(), 0),
            environment: body.table(&self.environment.entries, room),
            ..header
        }
    }

    fn flags(&self, any_cgroup: bool) -> u32 {
        let (process, container) = (self.process, self.container);
        [
            (process.no_new_privileges, flags::NO_NEW_PRIVS),
            (self.umask.is_some(), flags::UMASK),
            (container.oom_score_adj.is_some(), flags::OOM_SCORE),
            (container.personality.is_some(), flags::PERSONALITY),
            (self.io_priority.is_some(), flags::IO_PRIORITY),
            (process.terminal, flags::TERMINAL),
            (container.set_groups, flags::SET_GROUPS),
            (self.environment.find_home, flags::FIND_HOME),
            (self.candidates.search, flags::SEARCH),
            (self.cpus.last == Last::Reset, flags::CPUS_BEST_EFFORT),
            (any_cgroup, flags::ANY_CGROUP),
            (self.held(), flags::HELD),
            (container.crun.is_some(), flags::CRUN),
        ]
        .into_iter()
        .filter(|(set, _)| *set)
        .fold(0, |flags, (_, flag)| flags | flag)
    }
}

fn check(host: &Host, process: &Process, apparmor: &str) -> Result<(), Failure> {
    if !process.selinux_label.is_empty() {
        return Err(Unsupported::new("the process has a SELinux label").into());
    }
    if !apparmor.is_empty() && !host.apparmor {
        return Err(Unsupported::new("there is no AppArmor for the process's profile").into());
    }
    let strings = process.args().iter().map(String::as_str).chain([process.cwd.as_str(), apparmor]);
    if strings.into_iter().any(|text| text.contains('\0')) {
        return Err(Unsupported::new("the process has a NUL in a string").into());
    }
    Ok(())
}

fn cpus(container: &Container, process: &Process) -> Result<affinity::Plan, Failure> {
    let own = match &process.exec_cpu_affinity {
        Some(own) => ExecCpuAffinity::parse(&own.initial, &own.last),
        None => Ok(ExecCpuAffinity::default()),
    };
    let decided = own.and_then(|own| affinity::decide(own.or(&container.affinity), &container.pin));
    decided.map_err(|err| Failure::from(explain(&err)))
}

fn explain(err: &AffinityError) -> Error {
    let mut text = err.to_string();
    let mut cause = std::error::Error::source(err);
    while let Some(source) = cause {
        text = format!("{text}: {source}");
        cause = source.source();
    }
    match err {
        AffinityError::Exec { .. } => Error::Refused(text),
        AffinityError::UnknownTransition { .. }
        | AffinityError::CpusetList { .. }
        | AffinityError::IsolatedList { .. } => Error::Start(text),
    }
}
