pub(crate) mod dice;
pub(crate) mod gateway;
pub(crate) mod world;
