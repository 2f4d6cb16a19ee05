//! keepalived as a black box: how people move an address today. A pair of it with strongSwan
//! behind it is what our own pair is compared with.

use std::fmt::Write as _;
use std::time::Duration;

use crate::LabError;
use crate::lab::{Background, Host};

/// One node of a VRRP pair.
#[derive(Debug, Clone)]
pub struct Keepalived {
    /// Higher wins at the start; nobody preempts later.
    pub priority: u8,
    /// Advert interval; below 1 s needs VRRP version 3, which this is.
    pub advert: Duration,
    /// Device that carries the adverts.
    pub device: String,
    /// `ADDRESS/LENGTH` and the device it moves on.
    pub addresses: Vec<(String, String)>,
    /// Command to run when the node becomes master.
    pub notify_master: String,
}

impl Keepalived {
    /// Starts it on a host.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start(&self, host: &Host) -> Result<Background, LabError> {
        let config = host.write("keepalived.conf", &self.render(host))?;
        let mut command = host.command("keepalived");
        command.args(["--dont-fork", "--log-console", "--log-detail", "--use-file"]);
        command.arg(&config);
        host.spawn("keepalived", command)
    }

    fn render(&self, host: &Host) -> String {
        let mut addresses = String::new();
        for (address, device) in &self.addresses {
            // Writing to a String cannot fail.
            let _always_ok = writeln!(addresses, "        {address} dev {device}");
        }
        let Self {
            priority,
            device,
            notify_master,
            ..
        } = self;
        let advert = self.advert.as_secs_f64();
        let name = host.name();
        format!(
            "global_defs {{
    router_id {name}
    script_user root
    enable_script_security
    vrrp_version 3
    vrrp_garp_master_delay 1
}}
vrrp_instance pair {{
    state BACKUP
    nopreempt
    interface {device}
    virtual_router_id 51
    priority {priority}
    advert_int {advert}
    virtual_ipaddress {{
{addresses}    }}
    notify_master \"{notify_master}\"
}}
"
        )
    }
}
