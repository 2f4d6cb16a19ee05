//! The tunnel interface: TUN queues with segmentation offload, routes, MTU and MSS.
