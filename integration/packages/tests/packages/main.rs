// SPDX-License-Identifier: Apache-2.0
//! What operators install: packages, manifests, the installer of a node, and what the documents say.

mod commands;
mod documents;
mod installed;
mod installer;
mod manifests;
mod pages;
mod published;
