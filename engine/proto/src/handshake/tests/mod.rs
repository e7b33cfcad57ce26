mod slots;
mod transcript;
mod vectors;
