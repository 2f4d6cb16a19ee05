//! A disk of few kilobytes, and one that is full.

use std::fs::{File, remove_file};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, mount};

use crate::LabError;

/// What takes up the room.
const BALLAST: &str = "ballast";

/// A file system of its own, in memory.
#[derive(Debug)]
pub struct Disk {
    place: PathBuf,
}

impl Disk {
    /// Hosts that are made later see it at the same place.
    pub(super) fn new(place: PathBuf, kibibytes: u32) -> Result<Self, LabError> {
        std::fs::create_dir_all(&place).map_err(LabError::at("make a place for a disk"))?;
        let size = std::ffi::CString::new(format!("size={kibibytes}k"))
            .map_err(LabError::at("name the size of a disk"))?;
        mount("tmpfs", &place, "tmpfs", MountFlags::empty(), &*size)
            .map_err(LabError::at("mount a disk"))?;
        Ok(Self { place })
    }

    /// Where it is.
    #[must_use]
    pub fn place(&self) -> &Path {
        &self.place
    }

    /// Not a byte more goes onto it.
    ///
    /// # Errors
    /// When something but the lack of room prevents writing.
    pub fn fill(&self) -> Result<(), LabError> {
        let path = self.place.join(BALLAST);
        let mut file = File::create(path).map_err(LabError::at("make the ballast"))?;
        loop {
            match file.write(&[0; 512]) {
                Ok(_written) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => return Ok(()),
                Err(error) => return Err(LabError::at("fill a disk")(error)),
            }
        }
    }

    /// Ends [`Disk::fill`].
    ///
    /// # Errors
    /// When it was not filled.
    pub fn make_room(&self) -> Result<(), LabError> {
        remove_file(self.place.join(BALLAST)).map_err(LabError::at("remove the ballast"))
    }
}
