//! Neighbours that have not answered yet, and what waits for them.

use futures_util::TryStreamExt;
use rtnetlink::packet_route::neighbour::NeighbourState;

use super::{NetError, Netlink, is_gone, refused};

impl Netlink {
    /// Forgets the neighbours on a link whose address is still asked for. The kernel keeps a few
    /// packets for each, and would send them whenever the answer comes, also when nobody may speak
    /// there any more. Returns how many there were.
    ///
    /// # Errors
    /// [`NetError`].
    pub async fn drop_unresolved(&self, device: u32) -> Result<usize, NetError> {
        let mut found = self.handle.neighbours().get().execute();
        let mut unresolved = Vec::new();
        while let Some(neighbour) = found.try_next().await.map_err(refused("list neighbours"))? {
            let header = &neighbour.header;
            if header.ifindex == device && header.state == NeighbourState::Incomplete {
                unresolved.push(neighbour);
            }
        }
        let count = unresolved.len();
        for neighbour in unresolved {
            let gone = self.handle.neighbours().del(neighbour).execute().await;
            match gone.map_err(refused("forget a neighbour")) {
                Err(error) if !is_gone(&error) => return Err(error),
                _ => {}
            }
        }
        Ok(count)
    }
}
