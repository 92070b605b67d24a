// SPDX-License-Identifier: Apache-2.0
//! Blocks of code in Markdown: indented by four spaces, or fenced.

use std::fmt;
use std::fs;

use anyhow::{Context, Result};

use crate::root;

/// A block of code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// The document, from the root of the checkout.
    pub file: String,
    /// The number of its first line.
    pub line: usize,
    /// What it is, as a fence says.
    pub language: String,
    /// Its lines, without the indentation.
    pub text: String,
}

impl fmt::Display for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:\n{}", self.file, self.line, self.text)
    }
}

/// README and what is in docs, but the decisions.
///
/// # Errors
/// A directory cannot be read.
pub fn documents() -> Result<Vec<String>> {
    let mut names = vec!["README.md".to_owned()];
    for entry in fs::read_dir(root().join("docs"))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.ends_with(".md") {
            names.push(format!("docs/{name}"));
        }
    }
    names.sort();
    Ok(names)
}

/// The blocks of a document.
///
/// # Errors
/// It cannot be read.
pub fn blocks(file: &str) -> Result<Vec<Block>> {
    let text = fs::read_to_string(root().join(file)).with_context(|| file.to_owned())?;
    Ok(parse(file, &text))
}

fn parse(file: &str, text: &str) -> Vec<Block> {
    let mut parser = Parser { file, found: Vec::new(), open: None, fenced: false, blank: true };
    for (index, line) in text.lines().enumerate() {
        parser.line(index + 1, line);
    }
    let Parser { mut found, open, .. } = parser;
    found.extend(open);
    for block in &mut found {
        let kept = block.text.trim_end().len();
        block.text.truncate(kept);
        block.text.push('\n');
    }
    found
}

struct Parser<'a> {
    file: &'a str,
    found: Vec<Block>,
    open: Option<Block>,
    fenced: bool,
    /// Whether the line before was empty: elsewhere an indented line continues a paragraph.
    blank: bool,
}

impl Parser<'_> {
    fn line(&mut self, number: usize, line: &str) {
        if let Some(language) = line.strip_prefix("```") {
            self.close();
            self.fenced = !self.fenced;
            if self.fenced {
                self.begin(number, language);
            }
        } else if self.fenced {
            self.add(line);
        } else if let Some(code) = line.strip_prefix("    ") {
            if self.open.is_none() && self.blank {
                self.begin(number, "");
            }
            self.add(code);
        } else if line.is_empty() {
            self.add(line);
        } else {
            self.close();
        }
        self.blank = line.is_empty();
    }

    fn begin(&mut self, line: usize, language: &str) {
        let (file, language) = (self.file.to_owned(), language.to_owned());
        self.open = Some(Block { file, line, language, text: String::new() });
    }

    fn add(&mut self, line: &str) {
        if let Some(block) = self.open.as_mut() {
            block.text.push_str(line);
            block.text.push('\n');
        }
    }

    fn close(&mut self) {
        self.found.extend(self.open.take());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_are_found() {
        let text = "text\n\n    one\n\n    two\n\nmore\n    not code\n```sh\nthree\n```\n";
        let found = parse("f", text);
        let seen: Vec<_> = found
            .iter()
            .map(|block| (block.line, block.language.as_str(), block.text.as_str()))
            .collect();
        assert_eq!(seen, [(3, "", "one\n\ntwo\n"), (9, "sh", "three\n")]);
    }
}
