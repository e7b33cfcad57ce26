mod peer_sessions;
mod transcript;
mod vectors;
