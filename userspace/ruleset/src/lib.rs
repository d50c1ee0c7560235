//! Firewall model to rule set to kernel map image, with a reference classifier.
