// SPDX-License-Identifier: Apache-2.0
//! The address of an output: a path or a URI, read as Go's net/url reads it.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use crate::error::Error;

/// Where output goes, by the scheme of the stdout address.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// A fifo: no scheme, or `fifo`.
    Fifo,
    /// A file that is appended to.
    File(PathBuf),
    /// A program that reads the output.
    Logger(Binary),
}

/// A logging binary as its URI names it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Binary {
    /// Absolute.
    pub(crate) path: PathBuf,
    /// The query: each key, followed by its first value. Go orders them by chance; here they are
    /// as they appear.
    pub(crate) args: Vec<OsString>,
    /// `binary-v2`: it must say that it is ready (containerd #12595).
    pub(crate) strict: bool,
}

impl Target {
    /// Finds the scheme where Go's `url.Parse` finds it, so that a path stays a path.
    pub(crate) fn parse(address: &str) -> Result<Target, Error> {
        let bad_uri = |reason: &str| Error::Uri { uri: address.into(), reason: reason.into() };
        if address.bytes().any(|byte| byte.is_ascii_control()) {
            return Err(bad_uri("net/url: invalid control character in URL"));
        }
        let Some((scheme, rest)) = address.split_once(':') else {
            return Ok(Target::Fifo);
        };
        if scheme.is_empty() {
            return Err(bad_uri("missing protocol scheme"));
        }
        let first_is_letter = scheme.starts_with(|first: char| first.is_ascii_alphabetic());
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
        if !first_is_letter || !scheme.bytes().all(legal) {
            return Ok(Target::Fifo);
        }
        let scheme = scheme.to_ascii_lowercase();
        let logger = |strict| {
            let path = path(rest).map_err(|reason| bad_uri(&reason))?;
            Ok(Target::Logger(Binary { path, args: arguments(rest), strict }))
        };
        match scheme.as_str() {
            "fifo" => Ok(Target::Fifo),
            "file" => path(rest).map(Target::File).map_err(|reason| bad_uri(&reason)),
            "binary" => logger(false),
            "binary-v2" => logger(true),
            _ => Err(Error::UnknownScheme { scheme }),
        }
    }
}

/// The part of a URI behind its scheme, without the fragment: what is before `?` and behind it.
fn halves(rest: &str) -> (&str, &str) {
    let rest = rest.split_once('#').map_or(rest, |(rest, _)| rest);
    rest.split_once('?').unwrap_or((rest, ""))
}

/// The absolute path of a URI. A host before it means nothing, as in Go.
fn path(rest: &str) -> Result<PathBuf, String> {
    let (path, _) = halves(rest);
    let path = match path.strip_prefix("//") {
        Some(after) if !after.starts_with('/') => after.find('/').and_then(|at| after.get(at..)),
        Some(after) => Some(after),
        None => Some(path),
    };
    let path = path.filter(|path| path.starts_with('/')).ok_or("no absolute path")?;
    match decoded(path, false) {
        Ok(bytes) => Ok(OsString::from_vec(bytes).into()),
        Err(escape) => Err(format!("invalid URL escape {escape:?}")),
    }
}

/// What the query makes of the command line. Pairs that are malformed are left out, as in Go.
fn arguments(rest: &str) -> Vec<OsString> {
    let (_, query) = halves(rest);
    let mut pairs: Vec<[OsString; 2]> = Vec::new();
    for piece in query.split('&').filter(|piece| !piece.is_empty() && !piece.contains(';')) {
        let (key, value) = piece.split_once('=').unwrap_or((piece, ""));
        if let (Ok(key), Ok(value)) = (decoded(key, true), decoded(value, true)) {
            let key = OsString::from_vec(key);
            if pairs.iter().all(|[known, _]| *known != key) {
                pairs.push([key, OsString::from_vec(value)]);
            }
        }
    }
    pairs.into_iter().flatten().collect()
}

/// Undoes percent-encoding, RFC 3986, and in a query `+` for a space. An escape that is none is
/// the error.
fn decoded(text: &str, query: bool) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let (high, low) = (rest.next(), rest.next());
                let (Some(first), Some(second)) = (digit(high), digit(low)) else {
                    let escape = [Some(byte), high, low].into_iter().flatten().collect::<Vec<_>>();
                    return Err(String::from_utf8_lossy(&escape).into_owned());
                };
                first << 4 | second
            }
            b'+' if query => b' ',
            byte => byte,
        });
    }
    Ok(bytes)
}

fn digit(byte: Option<u8>) -> Option<u8> {
    let digit = char::from(byte?).to_digit(16)?;
    u8::try_from(digit).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn binary(address: &str) -> Binary {
        match Target::parse(address).unwrap() {
            Target::Logger(binary) => binary,
            other @ (Target::Fifo | Target::File(_)) => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_scheme_is_found_as_go_finds_it() {
        for path in ["", "/run/x", "/run/a:b", "1:2", "a b:c", "a/b:c", "fifo:///run/x", "FIFO:/x"]
        {
            assert_eq!(Target::parse(path).unwrap(), Target::Fifo, "{path}");
        }
        assert_eq!(Target::parse("file:///var/log/x").unwrap(), Target::File("/var/log/x".into()));
        assert!(!binary("Binary:///x?id=1").strict);
        assert!(binary("binary-v2:///x").strict);
    }

    #[test]
    fn other_schemes_are_refused_in_the_words_of_go() {
        let text = |address| Target::parse(address).unwrap_err().to_string();
        assert_eq!(text("streaming+unix:///x"), "unknown STDIO scheme streaming+unix");
        let parse = "unable to parse stdout uri: parse";
        assert_eq!(text(":x"), format!("{parse} \":x\": missing protocol scheme"));
        assert_eq!(
            text("/a\nb"),
            format!("{parse} \"/a\\nb\": net/url: invalid control character in URL")
        );
        for (uri, escape) in [("file:///a%zzb", "%zz"), ("file:///a%1", "%1"), ("file:/%", "%")] {
            assert_eq!(text(uri), format!("{parse} {uri:?}: invalid URL escape {escape:?}"));
        }
        for uri in ["file:", "file:x", "file://", "file://x", "binary:x?/y", "binary-v2:#/x"] {
            assert_eq!(text(uri), format!("{parse} {uri:?}: no absolute path"));
        }
    }

    #[test]
    fn the_path_is_decoded_and_what_surrounds_it_is_dropped() {
        let table = [
            ("file:/a", "/a"),
            ("file://host/a/b", "/a/b"),
            ("file:////a", "//a"),
            ("file:///a%20b%2fc+d", "/a b/c+d"),
            ("file:///a?b=c#d", "/a"),
            ("file:///a#b?c", "/a"),
        ];
        for (uri, path) in table {
            assert_eq!(Target::parse(uri).unwrap(), Target::File(path.into()), "{uri}");
        }
    }

    #[test]
    fn the_query_becomes_arguments_in_order_of_appearance() {
        let table: [(&str, &[&str]); 8] = [
            ("binary:///x", &[]),
            ("binary:///x?", &[]),
            ("binary:///x?id=1", &["id", "1"]),
            ("binary:///x?z=1&a=2&m=3", &["z", "1", "a", "2", "m", "3"]),
            ("binary:///x?a=1&b=2&a=3", &["a", "1", "b", "2"]),
            ("binary:///x?flag&&=v", &["flag", "", "", "v"]),
            ("binary:///x?a+b=%2F%3d+%26", &["a b", "/= &"]),
            ("binary:///x?a=%zz&b;c=1&d=e=f#g", &["d", "e=f"]),
        ];
        for (uri, args) in table {
            assert_eq!(binary(uri).args, args, "{uri}");
        }
    }

    proptest! {
        #[test]
        fn an_absolute_path_is_always_a_fifo(path in "/[^\\x00-\\x1f\\x7f]*") {
            prop_assert_eq!(Target::parse(&path).unwrap(), Target::Fifo);
        }

        #[test]
        fn an_encoded_path_comes_back(path in "/[^\\x00]{0,20}") {
            let encoded: String = path.bytes().map(|byte| match byte {
                b'/' => "/".to_owned(),
                byte => format!("%{byte:02x}"),
            }).collect();
            let target = Target::parse(&format!("file://{encoded}"));
            // Two slashes first would be a host.
            prop_assume!(!path.starts_with("//"));
            prop_assert_eq!(target.unwrap(), Target::File(path.into()));
        }
    }
}
