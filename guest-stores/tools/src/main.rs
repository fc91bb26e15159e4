//! Makes store components from other languages' output:
//!
//! ```text
//! guest-tools c-bindings WIT-DIR WORLD OUT-DIR     C bindings, lifted synchronously
//! guest-tools component CORE.wasm OUT.wasm         a component of a core module (WASI 0.1 or none)
//! guest-tools manifest COMPONENT.wasm MANIFEST.json OUT.wasm
//! ```

use std::borrow::Cow;
use std::path::Path;

use anyhow::{Context, Result, bail};
use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
};
use wasm_encoder::{ComponentSection, CustomSection};
use wit_bindgen_core::{AsyncFilterSet, Files};
use wit_component::ComponentEncoder;
use wit_parser::Resolve;

/// The custom section that a node reads a manifest from.
const MANIFEST_SECTION: &str = "postroom:manifest";

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["c-bindings", wit, world, out] => c_bindings(wit.as_ref(), world, out.as_ref()),
        ["component", core, out] => component(core.as_ref(), out.as_ref()),
        ["manifest", component, json, out] => {
            manifest(component.as_ref(), json.as_ref(), out.as_ref())
        }
        _ => bail!("usage: guest-tools c-bindings|component|manifest …; see the top of its source"),
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

fn write(path: &Path, octets: &[u8]) -> Result<()> {
    std::fs::write(path, octets).with_context(|| format!("cannot write {}", path.display()))
}

/// C has no way to wait without its caller: every `async func` is lifted and lowered synchronously.
fn c_bindings(wit: &Path, world: &str, out: &Path) -> Result<()> {
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_path(wit)?;
    let world = resolve.select_world(&[package], Some(world))?;
    let mut files = Files::default();
    let options = wit_bindgen_c::Opts { async_: AsyncFilterSet::all(false), ..Default::default() };
    options.build().generate(&mut resolve, world, &mut files)?;
    std::fs::create_dir_all(out)?;
    files.iter().try_for_each(|(name, octets)| write(&out.join(name), octets))
}

fn component(core: &Path, out: &Path) -> Result<()> {
    let adapter = (WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER);
    let component = ComponentEncoder::default()
        .validate(true)
        .module(&read(core)?)?
        .adapter(adapter.0, adapter.1)?
        .encode()?;
    write(out, &component)
}

/// Appends the manifest: a section may follow all others.
fn manifest(component: &Path, json: &Path, out: &Path) -> Result<()> {
    let mut octets = read(component)?;
    let manifest = read(json)?;
    let section =
        CustomSection { name: MANIFEST_SECTION.into(), data: Cow::Borrowed(manifest.as_slice()) };
    section.append_to_component(&mut octets);
    write(out, &octets)
}
