// SPDX-License-Identifier: Apache-2.0
//! The counters of a container as containerd's metrics messages.

use containerd_shim_protos::api;
use protobuf::MessageField;
use wedge_cgroups::Stats;

use super::pack;

/// Makes a message from a struct whose fields have the same names, or other ones given after a
/// semicolon. It does not compile unless every field of the struct is there.
macro_rules! message {
    ($message:path = $value:expr => $struct:path {
        $($field:ident)* $(; $($name:ident: $other:ident)*)?
    }) => {{
        let $struct { $($field,)* $($($other,)*)? } = $value;
        $message { $($field,)* $($($name: $other,)*)? ..Default::default() }
    }};
}

mod v1;
mod v2;

pub(crate) fn stats_response(stats: Stats) -> Result<api::StatsResponse, protobuf::Error> {
    let metrics = match stats {
        Stats::V1(stats) => pack("io.containerd.cgroups.v1", &v1::metrics(stats))?,
        Stats::V2(stats) => pack("io.containerd.cgroups.v2", &v2::metrics(stats))?,
    };
    Ok(api::StatsResponse { stats: MessageField::some(metrics), ..Default::default() })
}

/// Optional parts become optional messages.
fn field<T, M>(part: Option<T>, convert: impl FnOnce(T) -> M) -> MessageField<M> {
    MessageField::from_option(part.map(convert))
}

fn list<T, M>(entries: Vec<T>, convert: impl FnMut(T) -> M) -> Vec<M> {
    entries.into_iter().map(convert).collect()
}

#[cfg(test)]
mod tests;
