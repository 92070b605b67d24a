// SPDX-License-Identifier: Apache-2.0
//! The memory this program works with, made before the container is joined.

use core::ffi::CStr;

use wedge_setns_wire::{LIMIT, Plan, Slice, flags};

use crate::call;
use crate::kernel::errno::EINVAL;
use crate::sys::{Errno, Result};

/// Bytes for reading `/etc/passwd`, and for the longest line of it.
const BUFFER: usize = 64 << 10;

/// Everything that is needed until execve.
pub(crate) struct Work {
    /// Arguments, then environment, each with its null.
    pointers: &'static mut [usize],
    /// Where the environment begins.
    environment: usize,
    /// `HOME=…`, which must live until execve.
    pub(crate) home: &'static mut [u8],
    /// For one step at a time.
    pub(crate) buffer: &'static mut [u8],
}

/// Maps and checks the plan.
pub(crate) fn read_plan(fd: i32) -> Result<Plan<'static>> {
    let length = usize::try_from(call::size(fd)?).map_err(|_| Errno(EINVAL))?;
    if length > LIMIT {
        return Err(Errno(EINVAL));
    }
    Plan::parse(call::map(Some(fd), length)?).map_err(|_| Errno(EINVAL))
}

impl Work {
    pub(crate) fn new(plan: &Plan<'static>) -> Result<Work> {
        let header = plan.header();
        let environment = plan.entries(header.arguments) + 1;
        let count = environment + plan.entries(header.environment) + 1;
        let memory = call::map(None, count * size_of::<usize>())?;
        // SAFETY: any bytes are valid integers; a mapping is aligned to a page, so nothing is cut
        // off at the front.
        let (_, pointers, _) = unsafe { memory.align_to_mut::<usize>() };
        let mut work = Work {
            pointers,
            environment,
            home: call::map(None, BUFFER)?,
            buffer: call::map(None, BUFFER)?,
        };
        work.fill(plan, header.arguments, 0);
        work.fill(plan, header.environment, environment);
        Ok(work)
    }

    fn fill(&mut self, plan: &Plan<'static>, table: Slice, from: usize) {
        let places = self.pointers.iter_mut().skip(from);
        for (index, place) in (0..plan.entries(table)).zip(places) {
            // What has no entry stays null: room for HOME.
            *place = plan.entry(table, index).map_or(0, |text| text.as_ptr().expose_provenance());
        }
    }

    /// Puts `home`, which ends with a NUL, at the end of the environment.
    pub(crate) fn add_home(&mut self, plan: &Plan<'_>) {
        debug_assert!(plan.has(flags::FIND_HOME));
        let last = self.environment + plan.entries(plan.header().environment) - 1;
        if let Some(place) = self.pointers.get_mut(last) {
            *place = self.home.as_ptr().expose_provenance();
        }
    }

    /// Executes `path`; returns only the error.
    pub(crate) fn execute(&self, path: &CStr) -> Errno {
        let arguments = self.pointers.as_ptr().cast();
        let environment = self.pointers.get(self.environment..).unwrap_or_default().as_ptr();
        call::execute(path, arguments, environment.cast())
    }
}
