//! Sans-IO ISAKMP/IKEv1 negotiator: datagrams and time in; datagrams, events and a deadline out.
