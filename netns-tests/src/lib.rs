//! The lab: topologies in network namespaces, real peers as black boxes, the demo, the scenario tests.
