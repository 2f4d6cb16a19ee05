//! Real links: which there are, and when one goes down or comes back.

use std::io;

use futures_util::{Stream, TryStreamExt};
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use rtnetlink::{MulticastGroup, new_multicast_connection};

use super::{NetError, Netlink, is_gone, refused};

/// A link at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its index.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Switched on, and its carrier is there.
    pub running: bool,
}

impl Link {
    fn of(message: &LinkMessage) -> Option<Self> {
        let name = message
            .attributes
            .iter()
            .find_map(|attribute| match attribute {
                LinkAttribute::IfName(name) => Some(name.clone()),
                _ => None,
            })?;
        let flags = message.header.flags;
        Some(Self {
            index: message.header.index,
            name,
            running: flags.contains(LinkFlags::Up) && flags.contains(LinkFlags::LowerUp),
        })
    }
}

/// Links that change, as the kernel tells of them.
#[derive(Debug)]
pub struct LinkEvents<S>(S);

/// What the kernel says about one link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkEvent {
    /// It is there, perhaps changed.
    Is(Link),
    /// It is gone.
    Gone(Link),
}

impl<S> LinkEvents<S>
where
    S: Stream<
            Item = (
                NetlinkMessage<RouteNetlinkMessage>,
                rtnetlink::sys::SocketAddr,
            ),
        > + Unpin,
{
    /// The next change; `None` when the netlink connection has ended. Cancel-safe.
    pub async fn next(&mut self) -> Option<LinkEvent> {
        loop {
            let (message, _) = futures_util::StreamExt::next(&mut self.0).await?;
            let event = match message.payload {
                NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)) => {
                    Link::of(&link).map(LinkEvent::Is)
                }
                NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelLink(link)) => {
                    Link::of(&link).map(LinkEvent::Gone)
                }
                _ => None,
            };
            if event.is_some() {
                return event;
            }
        }
    }
}

/// Listens to the kernel. The second value must be spawned on the tokio runtime that is current
/// now. Ask [`Netlink::link`] for the state of each link afterwards: then no change is missed.
///
/// # Errors
/// When the netlink socket cannot be opened.
#[expect(
    clippy::type_complexity,
    reason = "the stream's type is the library's, and callers only bind it"
)]
pub fn watch_links() -> io::Result<(
    LinkEvents<
        impl Stream<
            Item = (
                NetlinkMessage<RouteNetlinkMessage>,
                rtnetlink::sys::SocketAddr,
            ),
        > + Unpin,
    >,
    impl Future<Output = ()> + Send + 'static,
)> {
    let (connection, _, messages) = new_multicast_connection(&[MulticastGroup::Link])?;
    Ok((LinkEvents(messages), connection))
}

impl Netlink {
    /// The link called `name`; `None` when there is none.
    ///
    /// # Errors
    /// [`NetError`].
    pub async fn link(&self, name: &str) -> Result<Option<Link>, NetError> {
        let request = self.handle.link().get().match_name(name.to_owned());
        let found = Box::pin(request.execute())
            .try_next()
            .await
            .map_err(refused(format!("look up link {name}")));
        match found {
            Ok(message) => Ok(message.as_ref().and_then(Link::of)),
            Err(error) if is_gone(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }
}
