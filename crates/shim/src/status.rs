// SPDX-License-Identifier: Apache-2.0
//! The only place that makes ttrpc statuses.
//!
//! containerd turns the code back into an error class, and its clients match on the class and on
//! the text; both must be those of the Go shim.

use std::fmt::Display;

use ttrpc::proto::{Code, Status};
use wedge_task::Error;

/// A status of `code` with `message`.
pub(crate) fn new(code: Code, message: impl Into<String>) -> Status {
    let mut status = Status::new();
    status.code = code.into();
    status.message = message.into();
    status
}

/// The status of a failed domain operation.
#[expect(clippy::needless_pass_by_value, reason = "fits map_err")]
pub(crate) fn of(error: Error) -> Status {
    new(code(error.code()), error.to_string())
}

/// A request that makes no sense. The text ends like Go's `errdefs.ErrInvalidArgument`.
pub(crate) fn invalid(problem: impl Display) -> Status {
    new(Code::INVALID_ARGUMENT, format!("{problem}: invalid argument"))
}

/// Go's answer for a service that is not registered.
pub(crate) fn unknown_service(service: &str) -> Status {
    new(Code::UNIMPLEMENTED, format!("service {service}"))
}

/// Go's answer for a method a registered service does not have.
pub(crate) fn unknown_method(method: &str) -> Status {
    new(Code::UNIMPLEMENTED, format!("method {method}"))
}

fn code(code: wedge_task::Code) -> Code {
    match code {
        wedge_task::Code::InvalidArgument => Code::INVALID_ARGUMENT,
        wedge_task::Code::NotFound => Code::NOT_FOUND,
        wedge_task::Code::AlreadyExists => Code::ALREADY_EXISTS,
        wedge_task::Code::FailedPrecondition => Code::FAILED_PRECONDITION,
        wedge_task::Code::Unavailable => Code::UNAVAILABLE,
        wedge_task::Code::Unknown => Code::UNKNOWN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The numbers are those of google.rpc.Code, which containerd's errgrpc reads.
    #[test]
    fn every_class_has_its_number() {
        let table = [
            (wedge_task::Code::Unknown, 2),
            (wedge_task::Code::InvalidArgument, 3),
            (wedge_task::Code::NotFound, 5),
            (wedge_task::Code::AlreadyExists, 6),
            (wedge_task::Code::FailedPrecondition, 9),
            (wedge_task::Code::Unavailable, 14),
        ];
        for (class, number) in table {
            assert_eq!(new(code(class), "").code.value(), number, "{class:?}");
        }
    }

    #[test]
    fn texts_are_those_of_go() {
        assert_eq!(unknown_service("a.B").message, "service a.B");
        assert_eq!(unknown_method("C").message, "method C");
        assert_eq!(invalid("no spec").message, "no spec: invalid argument");
    }
}
