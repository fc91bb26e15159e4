//! What a component file says, found by reading it: nothing is compiled or run here.

use std::collections::BTreeSet;

use serde::Serialize;
use wasmparser::{CanonicalFunction, CanonicalOption, ComponentExternalKind, Parser, Payload};

use super::error::LoadError;
use super::limits::{Grants, Limits};
use super::manifest::{AskedDirectory, Kind, MANIFEST_SECTION, Manifest};

/// The package that a component exports from.
pub const STORE_PACKAGE: &str = "postroom:store";
/// The interface by which it is asked before and told after deliveries.
pub const HOOKS: &str = "hooks";
/// The package that it may import.
pub const HOST_PACKAGE: &str = "postroom:host";
/// The version of both that this node serves. Pre-releases fit exactly or not at all.
pub const SERVED_VERSION: &str = "0.1.0-draft.1";
/// The interfaces of WASI that this node links; what they reach (files, sockets) is granted apart.
const WASI_PACKAGES: [&str; 6] =
    ["wasi:cli", "wasi:clocks", "wasi:filesystem", "wasi:io", "wasi:random", "wasi:sockets"];
/// The version of WASI that this node links.
const WASI_VERSION: &str = "0.2.";
/// Linked only for a component that is granted HTTP hosts.
const HTTP_PACKAGE: &str = "wasi:http";
/// Deepest nesting of components and modules that is read: bounds the parser's work.
const MAX_DEPTH: usize = 32;
/// Longest import or export name that is shown, in characters.
const MAX_SHOWN: usize = 100;

/// What a component file says.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Inspection {
    /// Octets of the file.
    pub size: u64,
    /// BLAKE3 of the file, in hexadecimal.
    pub digest: String,
    /// What it says about itself.
    pub manifest: Option<Manifest>,
    /// The kinds of record that it exports.
    pub kinds: Vec<Kind>,
    /// Whether it exports hooks.
    pub hooks: bool,
    /// Whether its instances take many calls at a time.
    pub lift: Lift,
    /// What it imports, by full name.
    pub imports: Vec<String>,
    /// What it exports, by full name.
    pub exports: Vec<String>,
}

/// How a component takes calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Lift {
    /// Many at a time in one instance.
    Async,
    /// One at a time.
    Sync,
}

/// Reads a component file. Fails when it is no component, or says something that no node could use;
/// whether *this* node serves it is [`Inspection::refused`]'s answer.
pub fn inspect(octets: &[u8]) -> Result<Inspection, LoadError> {
    recognise(octets)?;
    let mut found = Found::default();
    found.read(octets)?;
    let manifest = match found.manifests.as_slice() {
        [] => None,
        [one] => Some(Manifest::parse(one)?),
        [first, rest @ ..] if rest.iter().all(|other| other == first) => {
            Some(Manifest::parse(first)?)
        }
        _ => return Err(LoadError::Manifest("there are two that differ".to_owned())),
    };
    let kinds = Kind::ALL.into_iter().filter(|kind| found.exports(kind.name())).collect();
    Ok(Inspection {
        size: octets.len() as u64,
        digest: blake3::hash(octets).to_hex().to_string(),
        manifest,
        kinds,
        hooks: found.exports(HOOKS),
        lift: if found.lifts_async { Lift::Async } else { Lift::Sync },
        imports: found.imports,
        exports: found.exports,
    })
}

impl Inspection {
    /// What people call it: its own name and version, or the begin of its digest.
    pub fn label(&self) -> String {
        match &self.manifest {
            Some(manifest) => format!("{} {}", manifest.name, manifest.version),
            None => self.digest.chars().take(12).collect(),
        }
    }

    /// Whether this node serves it, with these grants.
    pub fn refused(&self, grants: &Grants) -> Result<(), LoadError> {
        for name in self.imports.iter().chain(&self.exports) {
            check_version(name)?;
        }
        let http = !self.granted_http(grants).is_empty();
        self.imports.iter().try_for_each(|import| check_import(import, http))?;
        if self.kinds.is_empty() && !self.hooks {
            return Err(LoadError::NoKind(format!("{STORE_PACKAGE}@{SERVED_VERSION}")));
        }
        self.check_manifest()
    }

    /// The HTTP hosts that it asks for and is granted.
    pub fn granted_http(&self, grants: &Grants) -> Vec<String> {
        let asked = self.manifest.as_ref().map(|m| m.asks.http.as_slice()).unwrap_or_default();
        let asks_for = |host: &String| asked.iter().any(|asked| asked == "*" || asked == host);
        grants.http.iter().filter(|host| asks_for(host)).cloned().collect()
    }

    /// What it asks for beyond what a store is granted, in one line; none: it gets all of it.
    pub fn ungranted(&self, grants: &Grants, limits: &Limits) -> Option<String> {
        let asks = &self.manifest.as_ref()?.asks;
        let granted = |asked: &AskedDirectory| {
            let mut all = grants.directories.iter();
            all.any(|grant| grant.name == asked.name && grant.write >= asked.write)
        };
        if let Some(asked) = asks.directories.iter().find(|asked| !granted(asked)) {
            let (name, write) = (&asked.name, if asked.write { " and write" } else { "" });
            return Some(format!(
                "it asks to read{write} directory {name}, which the store is not granted (grants.directories)"
            ));
        }
        // `*` leaves the choice to the operator, who may choose none.
        let mut hosts = asks.http.iter().filter(|host| *host != "*");
        if let Some(host) = hosts.find(|host| !grants.http.contains(host)) {
            return Some(format!(
                "it asks for HTTP to {host}, which the store is not granted (grants.http)"
            ));
        }
        let asked = asks.memory_mib.filter(|asked| *asked > limits.memory_mib)?;
        let most = limits.memory_mib;
        Some(format!("it asks for {asked} MiB of memory, the store's memory_mib is {most}"))
    }

    fn check_manifest(&self) -> Result<(), LoadError> {
        let Some(manifest) = &self.manifest else { return Ok(()) };
        let said: BTreeSet<_> = manifest.kinds.iter().collect();
        let is: BTreeSet<_> = self.kinds.iter().collect();
        if said == is {
            return Ok(());
        }
        let list = |kinds: BTreeSet<&Kind>| {
            kinds.into_iter().map(|kind| kind.name()).collect::<Vec<_>>().join(", ")
        };
        let (said, is) = (list(said), list(is));
        Err(LoadError::Manifest(format!("it names the kinds [{said}], the exports are [{is}]")))
    }
}

/// Tells apart what people give by mistake.
fn recognise(octets: &[u8]) -> Result<(), LoadError> {
    match octets {
        [] => Err(LoadError::Empty),
        [0, b'a', b's', b'm', 0x0d, 0, 1, 0, ..] => Ok(()),
        [0, b'a', b's', b'm', 1, 0, 0, 0, ..] => Err(LoadError::CoreModule),
        [0, b'a', b's', b'm', ..] if octets.len() < 8 => Err(LoadError::Damaged {
            at: octets.len() as u64,
            reason: "the file ends here".to_owned(),
        }),
        [0, b'a', b's', b'm', ..] => Err(LoadError::Damaged {
            at: 4,
            reason: "no version of WebAssembly that this node knows".to_owned(),
        }),
        [0x7f, b'E', b'L', b'F', ..] => Err(LoadError::Precompiled),
        [b'(', ..] => Err(LoadError::NotWasm("WebAssembly text: assemble it first")),
        [b'P', b'K', 3, 4, ..] => Err(LoadError::NotWasm("a ZIP archive: unpack it first")),
        [0x1f, 0x8b, ..] => Err(LoadError::NotWasm("a gzip file: unpack it first")),
        [b'#', b'!', ..] => Err(LoadError::NotWasm("a script")),
        _ => Err(LoadError::NotWasm("something else: give the .wasm file of a store component")),
    }
}

/// What is gathered from the sections.
#[derive(Default)]
struct Found {
    imports: Vec<String>,
    exports: Vec<String>,
    manifests: Vec<Vec<u8>>,
    lifts_async: bool,
}

impl Found {
    fn read(&mut self, octets: &[u8]) -> Result<(), LoadError> {
        // Components and modules nest; each starts with a version and closes with an end.
        let mut depth = 0_usize;
        for payload in Parser::new(0).parse_all(octets) {
            match payload.map_err(damaged)? {
                Payload::Version { range, .. } if depth >= MAX_DEPTH => {
                    let reason = format!("components are nested deeper than {MAX_DEPTH}");
                    return Err(LoadError::Damaged { at: range.start as u64, reason });
                }
                Payload::Version { .. } => depth += 1,
                Payload::End(_) => depth = depth.saturating_sub(1),
                payload => self.section(&payload, depth == 1).map_err(damaged)?,
            }
        }
        Ok(())
    }

    fn section(&mut self, payload: &Payload<'_>, outermost: bool) -> wasmparser::Result<()> {
        match payload {
            Payload::CustomSection(section) if section.name() == MANIFEST_SECTION => {
                self.manifests.push(section.data().to_vec());
            }
            Payload::ComponentCanonicalSection(functions) => {
                for function in functions.clone() {
                    self.lifts_async |= lifts_async(&function?);
                }
            }
            Payload::ComponentImportSection(imports) if outermost => {
                for import in imports.clone() {
                    self.imports.push(import?.name.name.to_owned());
                }
            }
            Payload::ComponentExportSection(exports) if outermost => {
                for export in exports.clone() {
                    let export = export?;
                    if export.kind == ComponentExternalKind::Instance {
                        self.exports.push(export.name.name.to_owned());
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn exports(&self, interface: &str) -> bool {
        let name = format!("{STORE_PACKAGE}/{interface}@{SERVED_VERSION}");
        self.exports.contains(&name)
    }
}

fn damaged(error: wasmparser::BinaryReaderError) -> LoadError {
    LoadError::Damaged { at: error.offset() as u64, reason: short(error.message()) }
}

fn lifts_async(function: &CanonicalFunction) -> bool {
    match function {
        CanonicalFunction::Lift { options, .. } => {
            options.iter().any(|option| matches!(option, CanonicalOption::Async))
        }
        _ => false,
    }
}

/// Refuses interfaces of ours in another version than the one that is served.
fn check_version(name: &str) -> Result<(), LoadError> {
    let (path, version) = name.split_once('@').unwrap_or((name, "without a version"));
    let package = path.split('/').next().unwrap_or(path);
    let ours = package == STORE_PACKAGE || package == HOST_PACKAGE;
    if ours && version != SERVED_VERSION {
        return Err(LoadError::Version {
            package: package.to_owned(),
            found: short(version),
            served: SERVED_VERSION.to_owned(),
        });
    }
    let wasi = WASI_PACKAGES.contains(&package) || package == HTTP_PACKAGE;
    if wasi && !version.starts_with(WASI_VERSION) {
        return Err(LoadError::Version {
            package: package.to_owned(),
            found: short(version),
            served: format!("{WASI_VERSION}x"),
        });
    }
    Ok(())
}

/// Refuses imports that a store component does not get.
fn check_import(import: &str, http: bool) -> Result<(), LoadError> {
    let refuse = |why| Err(LoadError::Import { import: short(import), why });
    let path = import.split('@').next().unwrap_or(import);
    let package = path.split('/').next().unwrap_or(path);
    match (package, path) {
        (_, "postroom:host/storage" | "postroom:host/settings" | "postroom:store/types") => Ok(()),
        (HOST_PACKAGE | STORE_PACKAGE, _) => refuse("which this node's version does not have"),
        (HTTP_PACKAGE, _) if http => Ok(()),
        (HTTP_PACKAGE, _) => {
            refuse("outgoing HTTP, which is neither asked for in its manifest nor granted")
        }
        (package, _) if WASI_PACKAGES.contains(&package) => Ok(()),
        _ => refuse("which no store component gets"),
    }
}

/// A text from the file as it is shown: one line, not too long.
fn short(text: &str) -> String {
    let clean = text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c });
    let mut shown: String = clean.take(MAX_SHOWN).collect();
    if text.chars().count() > MAX_SHOWN {
        shown.push('…');
    }
    shown
}
