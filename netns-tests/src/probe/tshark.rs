//! `tshark` as the judge: it decodes and decrypts with code that is not ours.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::LabError;
use crate::lab::Output;

/// The key tables that a gateway wrote.
#[derive(Debug, Clone)]
pub struct Keys {
    esp_sa: Vec<String>,
    ikev1: Vec<String>,
}

impl Keys {
    /// Reads `esp_sa` and `ikev1_decryption_table` from a directory.
    ///
    /// # Errors
    /// What the file system says.
    pub fn read(directory: &Path) -> Result<Self, LabError> {
        let lines = |name: &str| {
            std::fs::read_to_string(directory.join(name))
                .map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>())
                .map_err(LabError::at(format!("read the key table {name}")))
        };
        Ok(Self {
            esp_sa: lines("esp_sa")?,
            ikev1: lines("ikev1_decryption_table")?,
        })
    }
}

/// A reader of one capture.
#[derive(Debug, Clone)]
pub struct Tshark {
    file: PathBuf,
    options: Vec<String>,
}

impl Tshark {
    /// Reads a capture without keys.
    #[must_use]
    pub fn read(file: &Path) -> Self {
        Self {
            file: file.to_owned(),
            options: Vec::new(),
        }
    }

    /// Decrypts ESP and IKE with these keys, and checks every ICV.
    #[must_use]
    pub fn decrypt(mut self, keys: &Keys) -> Self {
        self.option("esp.enable_encryption_decode:TRUE");
        self.option("esp.enable_authentication_check:TRUE");
        for line in &keys.esp_sa {
            self.option(&format!("uat:esp_sa:{line}"));
        }
        for line in &keys.ikev1 {
            self.option(&format!("uat:ikev1_decryption_table:{line}"));
        }
        self
    }

    /// How many packets a display filter selects.
    ///
    /// # Errors
    /// When `tshark` refuses the filter or the file.
    pub fn count(&self, filter: &str) -> Result<usize, LabError> {
        Ok(self.fields(filter, "frame.number")?.len())
    }

    /// One field of every packet that a display filter selects.
    ///
    /// # Errors
    /// When `tshark` refuses.
    pub fn fields(&self, filter: &str, field: &str) -> Result<Vec<String>, LabError> {
        let mut command = Command::new("tshark");
        // Its settings come from a home directory that does not exist: the user's own cannot
        // change what the test sees.
        command.env("HOME", "/run/lab").stdin(Stdio::null());
        command.arg("-r").arg(&self.file).args(["-n", "-Y", filter]);
        command
            .args(["-T", "fields", "-e", field])
            .args(&self.options);
        let words = format!("tshark -Y {filter}");
        let output = Output::of(command, &words)?.or_fail("the lab", &words)?;
        Ok(output.stdout.lines().map(str::to_owned).collect())
    }

    fn option(&mut self, value: &str) {
        self.options.push("-o".to_owned());
        self.options.push(value.to_owned());
    }
}
