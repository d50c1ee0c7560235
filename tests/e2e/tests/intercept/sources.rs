//! A server sees the client's own address where the service allows it, and its answers reach the client.

use std::{
    io::{Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    thread,
    time::Duration,
};

use nightgate_lab::overlay::address;

use super::{Scene, datagrams::receive};

/// Addresses that the client sends to.
const SERVICE: [&str; 2] = ["172.20.7.1", "fd77::71"];
const PORT: u16 = 7_100;

#[test]
fn a_server_answers_the_client_whose_address_it_sees() {
    let scene = Scene::new();
    scene.rules("- { id: seen, from: local, to: lan, action: accept }");
    for (index, (service, server)) in SERVICE.into_iter().zip(address::SERVER).enumerate() {
        let server = SocketAddr::new(ip(server), PORT);
        scene.tells_who_asks(server);
        let name = format!("seen-{index}");
        scene.service(&name, &intercept(service), &host(server.ip(), address::CLIENT[index]));
        let (client, to) = (ip(address::CLIENT[index]), SocketAddr::new(ip(service), PORT));
        scene.is_carried(&format!("udp {client} > {to}"));

        let socket = scene.client(to.ip());
        socket.send_to(&[1; 3_000], to).expect("sent");
        assert_eq!(receive(&socket), (client.to_string().into_bytes(), to));
        let connect = || TcpStream::connect_timeout(&to, Duration::from_secs(10));
        let client_side = &scene.deployment.topology().client;
        let mut stream = client_side.enter(connect).expect("entered").expect("connected");
        let mut seen = String::new();
        stream.read_to_string(&mut seen).expect("an answer");
        assert_eq!(seen, client.to_string());
    }
}

fn intercept(destination: &str) -> String {
    format!(
        r#"{{"protocols":["tcp","udp"],"addresses":["{destination}"],"portRanges":[{{"low":{PORT},"high":{PORT}}}],"sourceIp":"$src_ip"}}"#
    )
}

fn host(server: IpAddr, client: &str) -> String {
    format!(
        r#"{{"forwardProtocol":true,"allowedProtocols":["tcp","udp"],"address":"{server}","port":{PORT},"allowedSourceAddresses":["{client}"]}}"#
    )
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

impl Scene {
    /// A server that answers everybody with the address that it sees.
    fn tells_who_asks(&self, server: SocketAddr) {
        let open =
            || Ok::<_, std::io::Error>((UdpSocket::bind(server)?, TcpListener::bind(server)?));
        let opened = self.deployment.topology().server.enter(open).expect("entered");
        let (datagrams, connections) = opened.expect("bound");
        thread::spawn(move || {
            let mut buffer = [0; 65_535];
            while let Ok((_, client)) = datagrams.recv_from(&mut buffer) {
                let _over = datagrams.send_to(client.ip().to_string().as_bytes(), client);
            }
        });
        thread::spawn(move || {
            for mut stream in connections.incoming().map_while(Result::ok) {
                let Ok(client) = stream.peer_addr() else { return };
                let _over = stream.write_all(client.ip().to_string().as_bytes());
            }
        });
    }
}
