// SPDX-License-Identifier: Apache-2.0
#include "tests/bpf/players.h"

#include "tests/packet/explain.h"

namespace doppel::bpftest {

using namespace packet;

std::vector<Bytes> syn_options(const Offer &offer, uint32_t tsval, uint32_t tsecr) {
  std::vector<Bytes> out;
  if (offer.mss)
    out.push_back(opt::mss(offer.mss_value));
  if (offer.sack)
    out.push_back(opt::sack_ok());
  if (offer.timestamps)
    out.push_back(opt::timestamps(tsval, tsecr));
  if (offer.wscale) {
    out.push_back(opt::nop());
    out.push_back(opt::wscale(offer.shift));
  }
  return out;
}

Packet Client::to_server() const {
  return between(Packet(), ip, cast().server, World::families().client6);
}

Packet Client::segment(uint32_t seq, unsigned flags, std::string_view text) {
  Packet p = to_server()
                 .mac(cast().client_mac, cast().host_mac)
                 .ttl(ttl)
                 .tos(tos)
                 .id(id++)
                 .tcp(port, server_port)
                 .seq(seq)
                 .ack(server_next)
                 .flags(flags)
                 .window(window)
                 .payload(text);
  if (timestamps)
    p.options(opt::linux_data(tsval, tsecr));
  return p;
}

Packet Client::syn() {
  next = isn + 1;
  return to_server()
      .mac(cast().client_mac, cast().host_mac)
      .ttl(ttl)
      .tos(tos)
      .id(id++)
      .tcp(port, server_port)
      .seq(isn)
      .flags(SYN)
      .window(64240)
      .options(syn_options(offer, tsval, 0));
}

Packet Client::ack() { return segment(next, 0); }

Packet Client::data(std::string_view text, unsigned flags) {
  Packet p = segment(next, flags, text);
  next += static_cast<uint32_t>(text.size());
  return p;
}

Packet Client::fin() { return segment(next++, FIN); }
Packet Client::rst() { return segment(next, RST); }

namespace {

// This host's address, of which both versions have one.
Ip4 of_shadow(const View &v) {
  if (v.is_ip6)
    return v.ip6_src.b == v6_of(cast().further).b ? cast().further : cast().host;
  return v.ip_src;
}

} // namespace

void Target::meets(const View &syn) {
  shadow = of_shadow(syn);
  shadow_port = syn.sport;
  received_next = syn.seq + 1;
  next = isn + 1;
  received.clear();
  if (syn.options.timestamps)
    tsecr = syn.options.timestamps->first;
}

std::string Target::takes(const View &v) {
  if (v.sport != shadow_port || v.dport != port || of_shadow(v).host != shadow.host)
    return "not of this shadow: " + summary(v);
  if (v.options.timestamps) {
    if (static_cast<int32_t>(v.options.timestamps->first - tsecr) < 0)
      return "the shadow's timestamps went back: " + summary(v);
    tsecr = v.options.timestamps->first;
  }
  if (v.payload.empty() && !v.has(FIN))
    return {};
  if (v.seq != received_next)
    return "sequence number should be " + std::to_string(received_next) + ": " + summary(v);
  received += v.text();
  received_next += v.seq_length();
  return {};
}

Packet Target::segment(uint32_t seq, unsigned flags, std::string_view text) {
  Packet p = between(Packet(), cast().target, shadow, World::families().target6)
                 .mac(cast().target_mac, cast().host_mac)
                 .tcp(port, shadow_port)
                 .seq(seq)
                 .ack(received_next)
                 .flags(flags)
                 .window(window)
                 .payload(text);
  if (timestamps)
    p.options(opt::linux_data(tsval, tsecr));
  return p;
}

Packet Target::syn_ack() {
  return segment(isn, SYN).window(65160).options(syn_options(offer, tsval, tsecr));
}

Packet Target::ack() { return segment(next, 0); }

Packet Target::response(std::string_view text) {
  Packet p = segment(next, PSH, text);
  next += static_cast<uint32_t>(text.size());
  return p;
}

Packet Target::fin() { return segment(next++, FIN); }
Packet Target::rst() { return segment(next, RST); }

namespace {

Packet from_shadow(const Target &t) {
  return between(Packet(), t.shadow, cast().target, World::families().target6)
      .mac(cast().host_mac, cast().target_mac)
      .tcp(t.shadow_port, t.port)
      .window(65535);
}

} // namespace

View Expected::made(uint32_t seq, unsigned flags, std::string_view text) const {
  Packet p = from_shadow(target)
                 .ttl(static_cast<uint8_t>(client.ttl - 1))
                 .seq(seq)
                 .ack(target.next)
                 .flags(flags)
                 .payload(text);
  if (target.timestamps)
    p.options(opt::linux_data(client.tsval, target.tsval));
  return parse(p.build());
}

View Expected::copy_of(const Packet &original, std::string_view text, unsigned flags) const {
  const View o = parse(original.build());
  // Of the other IP version nothing can be rewritten: such a copy is made.
  if (World::families().client6 != World::families().target6)
    return made(o.seq, flags, text);
  Packet p = from_shadow(target)
                 .ttl(static_cast<uint8_t>(o.ttl - 1))
                 .tos(0)
                 .id(o.id)
                 .dont_fragment(o.df)
                 .seq(o.seq)
                 .ack(target.next)
                 .flags(flags)
                 .payload(text);
  if (target.timestamps)
    p.options(opt::linux_data(client.tsval, target.tsval));
  else if (!o.raw_options.empty())
    p.options({Bytes(o.raw_options.size(), opt::kNop)});
  return parse(p.build());
}

View Expected::syn(uint16_t mss, uint8_t shift) const {
  Packet p =
      from_shadow(target).ttl(static_cast<uint8_t>(client.ttl - 1)).seq(client.isn).flags(SYN);
  Offer offer = client.offer;
  offer.mss = true;
  offer.mss_value = mss;
  offer.shift = shift;
  return parse(p.options(syn_options(offer, client.tsval, 0)).build());
}

} // namespace doppel::bpftest
