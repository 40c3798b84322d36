//! Nothing: what there is are tests, one file for each client.
