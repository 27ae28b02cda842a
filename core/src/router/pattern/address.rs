//! IP addresses and ranges of them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A range of addresses that begin with the same bits.
#[derive(Clone, Debug)]
pub(in crate::router) struct Cidr {
    text: Box<str>,
    first: IpAddr,
    bits: u32,
}

/// Reads an address: four decimal numbers with dots, or hexadecimal ones with colons. An IPv6 address that
/// stands for an IPv4 one is that one.
pub(in crate::router) fn parse(text: &str) -> Option<IpAddr> {
    if text.contains(':') {
        let plain = text.bytes().all(|byte| byte == b':' || byte.is_ascii_hexdigit());
        let address = plain.then(|| text.parse::<Ipv6Addr>().ok())?;
        return address.map(|address| match address.to_ipv4_mapped() {
            Some(mapped) => IpAddr::V4(mapped),
            None => IpAddr::V6(address),
        });
    }
    text.parse::<Ipv4Addr>().ok().map(IpAddr::V4)
}

impl Cidr {
    /// Reads an address, a slash and a number of bits.
    ///
    /// # Errors
    ///
    /// In words, where it is something else.
    pub(in crate::router) fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not a range such as 10.0.0.0/8 or 2001:db8::/32");
        let (address, bits) = text.split_once('/').ok_or_else(wrong)?;
        let first = parse(address).ok_or_else(wrong)?;
        let most = width(first) - 1;
        let bits = bits.parse().ok().filter(|bits| *bits <= most);
        let bits = bits.ok_or_else(|| format!("`{text}`: expected 0 to {most} bits after the slash"))?;
        Ok(Self {
            text: text.into(),
            first,
            bits,
        })
    }

    /// The text as it was given.
    pub(in crate::router) fn text(&self) -> &str {
        &self.text
    }

    /// The first and the last address of it.
    pub(in crate::router) fn ends(&self) -> [IpAddr; 2] {
        let within = u128::MAX.checked_shr(u128::BITS - (width(self.first) - self.bits));
        let within = within.unwrap_or_default();
        let first = number(self.first) & !within;
        [first, first | within].map(|number| match self.first {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::from_bits(u32::try_from(number).unwrap_or(u32::MAX))),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::from_bits(number)),
        })
    }

    pub(in crate::router) fn contains(&self, address: IpAddr) -> bool {
        let width = width(self.first);
        let same_kind = self.first.is_ipv4() == address.is_ipv4();
        let differing = number(self.first) ^ number(address);
        same_kind && differing.checked_shr(width - self.bits).unwrap_or_default() == 0
    }
}

fn width(address: IpAddr) -> u32 {
    match address {
        IpAddr::V4(_) => u32::BITS,
        IpAddr::V6(_) => u128::BITS,
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u32::from(address).into(),
        IpAddr::V6(address) => address.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(range: &str, address: &str, within: bool) {
        let range = Cidr::parse(range).unwrap();
        assert_eq!(
            parse(address).is_some_and(|address| range.contains(address)),
            within,
            "{address}"
        );
    }

    #[test]
    fn a_range_holds_the_addresses_with_its_first_bits() {
        check("10.0.0.0/24", "10.0.0.255", true);
        check("10.0.0.0/24", "10.0.1.0", false);
        check("10.0.0.77/24", "10.0.0.1", true);
        check("0.0.0.0/0", "255.255.255.255", true);
        check("0.0.0.0/0", "::1", false);
        check("::/0", "1.2.3.4", false);
        check("2001:db8::/32", "2001:0DB8:0:0::1", true);
        check("2001:db8::/32", "2001:db9::1", false);
        check("10.0.0.0/8", "::ffff:0a01:0203", true);
        check("10.0.0.0/8", "010.0.0.1", false);
        check("10.0.0.0/8", "not an address", false);
    }

    #[test]
    fn what_is_no_range_is_refused() {
        for wrong in [
            "foo",
            "10.0.0.1",
            "10.0.0.0/32",
            "10.0.0/8",
            "::/128",
            "10.0.0.0/-1",
            "10.0.0.0/8/8",
            "1.2.3.4/",
        ] {
            assert!(Cidr::parse(wrong).is_err(), "{wrong}");
        }
    }
}
