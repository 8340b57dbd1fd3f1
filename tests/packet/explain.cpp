// SPDX-License-Identifier: Apache-2.0
#include "tests/packet/explain.h"

#include <algorithm>
#include <cstdio>
#include <map>
#include <sstream>

#include "tests/packet/packet.h"

namespace doppel::packet {

namespace {

template <typename... A> std::string format(const char *f, A... a) {
  char out[256];
  std::snprintf(out, sizeof out, f, a...);
  return out;
}

std::string quoted_hex(const Bytes &b) { return "bytes.fromhex('" + to_hex(b) + "')"; }

Fields option_fields(const View &v) {
  Fields out;
  const TcpOptions &o = v.options;
  if (o.mss)
    out.emplace_back("opt.mss", std::to_string(*o.mss));
  if (o.wscale)
    out.emplace_back("opt.wscale", std::to_string(*o.wscale));
  if (o.sack_ok)
    out.emplace_back("opt.sack_ok", "yes");
  if (o.timestamps) {
    out.emplace_back("opt.tsval", std::to_string(o.timestamps->first));
    out.emplace_back("opt.tsecr", std::to_string(o.timestamps->second));
  }
  std::string blocks;
  for (auto [from, to] : o.sack)
    blocks += format("%u-%u ", from, to);
  if (!blocks.empty())
    out.emplace_back("opt.sack", blocks);
  std::string kinds;
  for (uint8_t k : o.kinds)
    kinds += format("%u ", k);
  out.emplace_back("opt.kinds", kinds);
  return out;
}

// Scapy fills in what is left out just as Packet does, so a rebuild decides whether that suffices.
Packet rebuilt(const View &v) {
  Packet p;
  p.mac(v.src, v.dst).ttl(v.ttl).tos(v.tos);
  for (uint16_t tci : v.vlan)
    p.vlan(tci);
  if (v.is_ip6)
    p.ip6(v.ip6_src, v.ip6_dst).flow_label(v.flow_label);
  else
    p.ip4(v.ip_src, v.ip_dst).id(v.id).ip_options(v.ip_options);
  if (v.frag_offset || v.mf)
    p.fragment(v.frag_offset, v.mf).protocol(v.protocol);
  p.dont_fragment(v.df);
  if (v.is_tcp)
    p.tcp(v.sport, v.dport)
        .seq(v.seq)
        .ack_number(v.ack)
        .flags(v.flags)
        .window(v.window)
        .urgent(v.urgent)
        .options({v.raw_options});
  if (v.is_udp)
    p.udp(v.sport, v.dport);
  return p.payload(v.payload).padding(v.trailing);
}

std::string scapy_options(const Bytes &raw) {
  std::string out;
  for (size_t i = 0; i < raw.size();) {
    const uint8_t kind = raw[i];
    const std::string comma = out.empty() ? "" : ", ";
    if (kind == opt::kEnd) {
      out += comma + "('EOL', None)";
      break;
    }
    if (kind == opt::kNop) {
      out += comma + "('NOP', None)";
      i++;
      continue;
    }
    const uint8_t length = raw[i + 1];
    const Bytes value(raw.begin() + static_cast<long>(i) + 2,
                      raw.begin() + static_cast<long>(i) + length);
    if (kind == opt::kMss && length == 4)
      out += comma + format("('MSS', %u)", get16(value.data()));
    else if (kind == opt::kWscale && length == 3)
      out += comma + format("('WScale', %u)", value[0]);
    else if (kind == opt::kSackOk && length == 2)
      out += comma + "('SAckOK', b'')";
    else if (kind == opt::kTimestamps && length == 10)
      out +=
          comma + format("('Timestamp', (%u, %u))", get32(value.data()), get32(value.data() + 4));
    else
      out += comma + format("(%u, ", kind) + quoted_hex(value) + ")";
    i += length;
  }
  return out;
}

} // namespace

std::string flag_letters(unsigned flags) {
  std::string out;
  for (int i = 0; i < 8; i++)
    if (flags & 1u << i)
      out += "FSRPAUEC"[i];
  return out;
}

Fields fields(const View &v) {
  Fields out{{"eth.dst", v.dst.text()}, {"eth.src", v.src.text()}};
  for (uint16_t tci : v.vlan)
    out.emplace_back("vlan.tci", format("%u", tci));
  out.emplace_back("eth.type", format("0x%04x", v.ethertype));
  if (v.is_ip4) {
    out.insert(out.end(), {{"ip.src", v.ip_src.text()},
                           {"ip.dst", v.ip_dst.text()},
                           {"ip.id", std::to_string(v.id)},
                           {"ip.df", v.df ? "1" : "0"},
                           {"ip.mf", v.mf ? "1" : "0"},
                           {"ip.offset", std::to_string(v.frag_offset)},
                           {"ip.options", to_hex(v.ip_options)}});
  }
  if (v.is_ip6)
    out.insert(out.end(), {{"ip.src", v.ip6_src.text()},
                           {"ip.dst", v.ip6_dst.text()},
                           {"ip.label", std::to_string(v.flow_label)}});
  if (v.is_ip4 || v.is_ip6) {
    out.insert(out.end(), {{"ip.ttl", std::to_string(v.ttl)},
                           {"ip.tos", format("0x%02x", v.tos)},
                           {"ip.length", std::to_string(v.total_length)},
                           {"ip.protocol", std::to_string(v.protocol)}});
  }
  if (v.is_tcp || v.is_udp) {
    out.emplace_back("sport", std::to_string(v.sport));
    out.emplace_back("dport", std::to_string(v.dport));
  }
  if (v.is_tcp) {
    out.insert(out.end(), {{"tcp.seq", std::to_string(v.seq)},
                           {"tcp.ack", std::to_string(v.ack)},
                           {"tcp.flags", flag_letters(v.flags)},
                           {"tcp.window", std::to_string(v.window)},
                           {"tcp.urgent", std::to_string(v.urgent)}});
    const Fields options = option_fields(v);
    out.insert(out.end(), options.begin(), options.end());
  }
  out.emplace_back("payload", to_hex(v.payload));
  out.emplace_back("trailing", std::to_string(v.trailing));
  for (const std::string &fault : v.faults)
    out.emplace_back("fault", fault);
  return out;
}

std::string summary(const View &v) {
  std::ostringstream out;
  if (!v.vlan.empty())
    out << "vlan " << v.vlan[0] << " ";
  if (v.is_ip4 || v.is_ip6) {
    const std::string src = v.is_ip4 ? v.ip_src.text() : v.ip6_src.text();
    const std::string dst = v.is_ip4 ? v.ip_dst.text() : v.ip6_dst.text();
    out << src << ":" << v.sport << " > " << dst << ":" << v.dport << " ";
  } else {
    out << v.src.text() << " > " << v.dst.text() << format(" type 0x%04x ", v.ethertype);
  }
  if (v.is_tcp) {
    out << flag_letters(v.flags) << " seq " << v.seq << " ack " << v.ack << " win " << v.window
        << " <";
    for (auto &[name, value] : option_fields(v))
      if (name != "opt.kinds")
        out << name.substr(4) << " " << value << ",";
    out << "> ";
  }
  if (v.is_udp)
    out << "UDP ";
  out << v.payload.size() << " B";
  for (const std::string &fault : v.faults)
    out << " [" << fault << "]";
  return out.str();
}

std::string scapy(const View &v) {
  const bool structured = v.faults.empty() && (v.is_ip4 || v.is_ip6) && !v.options.broken &&
                          v.ip_options.empty() && rebuilt(v).build() == v.frame;
  if (!structured)
    return "Ether(" + quoted_hex(v.frame) + ")";
  std::string out = "Ether(src='" + v.src.text() + "', dst='" + v.dst.text() + "')";
  for (uint16_t tci : v.vlan)
    out += format("/Dot1Q(prio=%u, id=%u, vlan=%u)", tci >> 13, tci >> 12 & 1, tci & 0xfff);
  if (v.is_ip4)
    out += "/IP(src='" + v.ip_src.text() + "', dst='" + v.ip_dst.text() +
           format("', ttl=%u, tos=0x%x, id=%u, flags=%u, frag=%u, proto=%u)", v.ttl, v.tos, v.id,
                  (v.df ? 2u : 0) | (v.mf ? 1u : 0), v.frag_offset / 8u, v.protocol);
  else
    out += "/IPv6(src='" + v.ip6_src.text() + "', dst='" + v.ip6_dst.text() +
           format("', hlim=%u, tc=0x%x, fl=0x%x, nh=%u)", v.ttl, v.tos, v.flow_label, v.protocol);
  if (v.is_tcp)
    out +=
        format(
            "/TCP(sport=%u, dport=%u, seq=%u, ack=%u, flags='%s', window=%u, urgptr=%u, options=[",
            v.sport, v.dport, v.seq, v.ack, flag_letters(v.flags).c_str(), v.window, v.urgent) +
        scapy_options(v.raw_options) + "])";
  if (v.is_udp)
    out += format("/UDP(sport=%u, dport=%u)", v.sport, v.dport);
  if (!v.payload.empty())
    out += "/Raw(" + quoted_hex(v.payload) + ")";
  if (v.trailing)
    out += "/Padding(bytes(" + std::to_string(v.trailing) + "))";
  return out;
}

std::string diff(const View &expected, const View &got, const std::vector<std::string> &ignore) {
  // Some fields repeat (tags, faults), so values are gathered by name.
  std::map<std::string, std::string> want, have;
  for (auto &[name, value] : fields(expected))
    want[name] += value;
  for (auto &[name, value] : fields(got))
    have[name] += value;
  std::map<std::string, std::string> all(want);
  all.insert(have.begin(), have.end());
  std::ostringstream out;
  for (auto &[name, value] : all) {
    if (std::find(ignore.begin(), ignore.end(), name) != ignore.end())
      continue;
    const auto w = want.find(name), h = have.find(name);
    const std::string ws = w == want.end() ? "(absent)" : w->second;
    const std::string hs = h == have.end() ? "(absent)" : h->second;
    if (ws != hs)
      out << "  " << name << ": expected " << ws << ", got " << hs << "\n";
  }
  if (out.str().empty())
    return {};
  out << " expected: " << scapy(expected) << "\n" << hex_dump(expected.frame, &got.frame);
  out << " got:      " << scapy(got) << "\n" << hex_dump(got.frame, &expected.frame);
  return out.str();
}

} // namespace doppel::packet
