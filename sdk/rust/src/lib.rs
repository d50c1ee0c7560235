//! Dial and bind services of the overlay from an application, without a listening port.
