// SPDX-License-Identifier: Apache-2.0
//! Which CPUs an exec may run on, decided before it is started (docs/exec-affinity.md).
//!
//! The first of these that says something: `process.execCPUAffinity` of the OCI spec, the
//! annotation [`ANNOTATION`], and else a reset to every CPU the container's cpuset allows.
//! Everything here is policy; the setns helper makes the calls.

mod cpu_set;
mod error;
mod isolated;
#[cfg(test)]
mod tests;

pub use cpu_set::{CpuSet, ListError, MAX_CPU};
pub use error::{AffinityError, Member};
pub use isolated::{isolated_cpus, read_isolated_cpus};

/// The annotation of runc commit afc23e3397, which was reverted before any release.
pub const ANNOTATION: &str = "org.opencontainers.runc.exec.isolated-cpu-affinity-transition";

/// How long the eligible CPU is kept to: the values of [`ANNOTATION`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transition {
    /// Until the cgroup has been joined.
    Temporary,
    /// For good.
    Definitive,
}

/// Reads the value of [`ANNOTATION`]; none and an empty one mean that it is off.
///
/// # Errors
/// [`AffinityError::UnknownTransition`] for any other value.
pub fn transition(annotation: Option<&str>) -> Result<Option<Transition>, AffinityError> {
    match annotation.unwrap_or_default() {
        "" => Ok(None),
        "temporary" => Ok(Some(Transition::Temporary)),
        "definitive" => Ok(Some(Transition::Definitive)),
        other => Err(AffinityError::UnknownTransition { value: other.to_owned() }),
    }
}

/// The CPU to enter a container on, given its cpuset and the isolated CPUs of the machine: one that
/// no real-time thread owns, or, when all are isolated, the lowest, where such applications have
/// their slow thread. None when no isolated CPU is involved.
pub fn eligible(cpuset: Option<&CpuSet>, isolated: Option<&CpuSet>) -> Option<usize> {
    let (cpuset, isolated) = (cpuset?, isolated?);
    if !cpuset.intersects(isolated) {
        return None;
    }
    cpuset.difference(isolated).lowest().or_else(|| cpuset.lowest())
}

/// What the annotation comes to for one container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pin {
    /// How long to stay.
    pub transition: Transition,
    /// Where.
    pub cpu: usize,
}

/// Evaluates the annotation. The answer holds for all execs of a container until its
/// `cpuset.cpus` is changed by an update.
///
/// `cpuset_cpus` is what was configured, not what the kernel made of it; when it is empty, nothing
/// else is looked at, not even the annotation. `isolated` is [`read_isolated_cpus`], and only asked
/// when it is needed.
///
/// # Errors
/// An unknown value, and lists that make no sense, in runc's words.
pub fn pin(
    annotation: Option<&str>,
    cpuset_cpus: &str,
    isolated: impl FnOnce() -> Result<Option<CpuSet>, AffinityError>,
) -> Result<Option<Pin>, AffinityError> {
    if cpuset_cpus.is_empty() {
        return Ok(None);
    }
    let Some(transition) = transition(annotation)? else {
        return Ok(None);
    };
    let cpuset = CpuSet::parse_kernel_list(cpuset_cpus)
        .map_err(|source| AffinityError::CpusetList { list: cpuset_cpus.to_owned(), source })?;
    let cpu = eligible(Some(&cpuset), isolated()?.as_ref());
    Ok(cpu.map(|cpu| Pin { transition, cpu }))
}

/// `execCPUAffinity`, parsed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExecCpuAffinity {
    initial: Option<CpuSet>,
    last: Option<CpuSet>,
}

impl ExecCpuAffinity {
    /// Parses the strings `initial` and `final` of an OCI process; an empty one is unset.
    ///
    /// # Errors
    /// [`AffinityError::Exec`] with runc's text, which comes without "unable to start container
    /// process".
    pub fn parse(initial: &str, last: &str) -> Result<ExecCpuAffinity, AffinityError> {
        let parse = |list: &str, member| match list {
            "" => Ok(None),
            list => CpuSet::parse_list(list)
                .map(Some)
                .map_err(|source| AffinityError::Exec { member, source }),
        };
        let initial = parse(initial, Member::Initial)?;
        Ok(ExecCpuAffinity { initial, last: parse(last, Member::Final)? })
    }

    /// Takes the masks of `exec_cpu_affinity` in runc's `state.json`, null where unset.
    pub fn from_words(initial: Option<&[u64]>, last: Option<&[u64]>) -> ExecCpuAffinity {
        let set =
            |words: Option<&[u64]>| words.map(CpuSet::from_words).filter(|set| !set.is_empty());
        ExecCpuAffinity { initial: set(initial), last: set(last) }
    }

    /// This one, the process's own, or the `container`'s when neither member is set. The two are
    /// not mixed.
    pub fn or<'a>(&'a self, container: &'a ExecCpuAffinity) -> &'a ExecCpuAffinity {
        if self.is_unset() { container } else { self }
    }

    fn is_unset(&self) -> bool {
        self.initial.is_none() && self.last.is_none()
    }
}

/// What the helper does to itself, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Set before the cgroup is joined, so that joining cannot land the helper on another CPU;
    /// failure is fatal.
    pub initial: Option<CpuSet>,
    /// Done right after the cgroup has been joined, since the kernel clamps to the cpuset then.
    pub last: Last,
}

/// What comes after the cgroup has been joined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Last {
    /// Nothing: the initial mask stays.
    Keep,
    /// This mask is set; failure is fatal.
    Set(CpuSet),
    /// [`CpuSet::all`] is set, which the kernel reads as "whatever the cpuset allows, now and after
    /// it was changed"; failure is only a warning.
    Reset,
}

/// Decides for one exec. `exec` is what [`ExecCpuAffinity::or`] gave, `annotation` the container's
/// cached answer of [`pin`]; a wrong annotation does not matter to an exec that says itself where
/// to run.
///
/// A temporary transition ends with [`Last::Reset`] and not with the container's cpuset as the
/// mask: the outcome is the same now, but since 6.2 the kernel remembers a mask, and a cpuset that
/// grows later would not widen the process. A mask of CPUs that went offline would be refused, too.
///
/// # Errors
/// That of `annotation`.
pub fn decide(
    exec: &ExecCpuAffinity,
    annotation: &Result<Option<Pin>, AffinityError>,
) -> Result<Plan, AffinityError> {
    if !exec.is_unset() {
        let last = exec.last.clone().map_or(Last::Keep, Last::Set);
        return Ok(Plan { initial: exec.initial.clone(), last });
    }
    let Some(pin) = annotation.clone()? else {
        return Ok(Plan { initial: None, last: Last::Reset });
    };
    let last = match pin.transition {
        Transition::Temporary => Last::Reset,
        // Before Linux 6.2 joining a cpuset forgets the mask that was asked for.
        Transition::Definitive => Last::Set(CpuSet::single(pin.cpu)),
    };
    Ok(Plan { initial: Some(CpuSet::single(pin.cpu)), last })
}
