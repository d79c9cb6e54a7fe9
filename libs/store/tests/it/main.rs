mod cache;
mod faults;
mod local;
mod s3_server;
mod suite;
