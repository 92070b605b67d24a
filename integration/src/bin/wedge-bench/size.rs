// SPDX-License-Identifier: Apache-2.0
//! How large the binaries are.

use anyhow::Result;

use crate::Wishes;
use crate::report::{Row, Table, Unit};
use crate::samples::Samples;
use crate::world::World;

pub(crate) fn run(world: &World, _: &Wishes) -> Result<Vec<Table>> {
    let lanes = world.shims();
    let size = |lane: &crate::lane::Lane| -> Result<Samples> {
        let bytes = std::fs::metadata(world.shim(*lane).path())?.len();
        Ok(Samples::one(f64::from(u32::try_from(bytes >> 10)?)))
    };
    let cells = lanes.iter().map(size).collect::<Result<Vec<_>>>()?;
    let mut table = Table::new("size", "the shim's binary", lanes);
    table.rows.push(Row::new("size", Unit::Kibibytes, cells));
    Ok(vec![table])
}
