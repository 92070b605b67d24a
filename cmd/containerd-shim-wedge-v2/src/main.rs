// SPDX-License-Identifier: Apache-2.0
//! containerd-shim-wedge-v2, see the crate `wedge-shim`.
#![forbid(unsafe_code)]

use std::io::Write;
use std::process::ExitCode;

use wedge_shim::{Error, Invocation, Program};

fn main() -> ExitCode {
    let mut words = std::env::args_os();
    let program = Program::new(words.next());
    let result = wedge_shim::parse(words).and_then(|invocation| run(&program, invocation));
    let err = match result {
        Ok(code) => return code,
        Err(err) => err,
    };
    let (text, code) = if let Error::Usage { message } = &err {
        (format!("{message}\n{}", program.usage()), 2)
    } else {
        (format!("{}: {}", program.runtime(), err.chain()), 1)
    };
    // When even that cannot be said, the exit status has to do.
    say(std::io::stderr(), &text).unwrap_or_default();
    ExitCode::from(code)
}

fn run(program: &Program, invocation: Invocation) -> Result<ExitCode, Error> {
    match invocation {
        // It has said itself what failed.
        Invocation::CompileSeccomp => return Ok(wedge_shim::compile_seccomp()),
        Invocation::Version => say(std::io::stdout(), &program.version()),
        Invocation::Help => say(std::io::stderr(), &program.usage()),
        Invocation::Info => wedge_shim::info(program),
        Invocation::Start(flags) => wedge_shim::start(program, &flags),
        Invocation::Delete(flags) => wedge_shim::delete(program, &flags),
        Invocation::Serve(flags) => wedge_shim::serve(program, &flags),
    }?;
    Ok(ExitCode::SUCCESS)
}

fn say(mut to: impl Write, text: &str) -> Result<(), Error> {
    to.write_all(text.as_bytes())
        .and_then(|()| to.flush())
        .map_err(|source| Error::System { action: "write the answer", source })
}
