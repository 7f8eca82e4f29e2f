//! Writes `sbom.cdx.json` and `licences.txt` for a release archive.

use std::{fs, path::PathBuf, process::ExitCode};

use clap::Parser;
use lab_inventory::{InventoryError, Places, Subject, bill_of_materials, faults, inventory, licences};

/// List what a release archive contains that others wrote, with licences.
#[derive(Parser)]
struct Arguments {
    /// Checkout of the project
    #[arg(long, value_name = "DIR", default_value = ".")]
    project: PathBuf,
    /// Target triple of lab
    #[arg(long)]
    target: String,
    /// Directory of images, as it is shipped
    #[arg(long, value_name = "DIR")]
    images: PathBuf,
    /// Unpacked Debian packages of the images, for their copyright files
    #[arg(long, value_name = "DIR")]
    debian: Option<PathBuf>,
    /// Name of the archive
    #[arg(long)]
    archive: String,
    /// Version of the archive
    #[arg(long)]
    release: String,
    /// Time of the sources, in RFC 3339
    #[arg(long)]
    time: String,
    /// Directory for the files
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

fn main() -> ExitCode {
    match write(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("inventory: {error}");
            ExitCode::FAILURE
        }
    }
}

fn write(arguments: Arguments) -> Result<(), InventoryError> {
    let Arguments { project, target, images, debian, archive, release: version, time, out } = arguments;
    let inventory = inventory(&Places { project, target, images, debian })?;
    let bill = bill_of_materials(&inventory, &Subject { archive, version, time });
    let faults = faults(&bill);
    if !faults.is_empty() {
        return Err(InventoryError::Bill(faults));
    }
    for (name, text) in [("sbom.cdx.json", format!("{bill:#}\n")), ("licences.txt", licences(&inventory))] {
        let path = out.join(name);
        fs::write(&path, text).map_err(|source| InventoryError::File { action: "write", path, source })?;
    }
    println!("{} components", inventory.components().count());
    Ok(())
}
