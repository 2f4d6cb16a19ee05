//! Election, lease, takeover and state replication for a gateway pair.
