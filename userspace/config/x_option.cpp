// SPDX-License-Identifier: Apache-2.0
#include "userspace/config/x_option.h"

#include <algorithm>
#include <optional>
#include <string_view>
#include <utility>

#include "userspace/util/text.h"

namespace doppel {
namespace {
// A part of the option, and where in it that begins, from 0.
struct Part {
  std::string_view text;
  size_t at = 0;

  Part from(size_t begin, size_t end = std::string_view::npos) const {
    return {text.substr(begin, end == std::string_view::npos ? end : end - begin), at + begin};
  }
};

class EntryReader {
public:
  EntryReader(Part entry, Errors &errors)
      : entry_(entry), where_(entry.text.empty() ? "-x" : "-x " + std::string(entry.text)),
        errors_(errors) {}

  // Nothing: there were errors.
  std::optional<MappingConfig> read(const std::vector<std::string> &devices);

private:
  void error(const Part &part, const Error &e) {
    errors_.push_back(
        {where_ + ", character " + std::to_string(part.at + 1), e.what, e.hint, Exit::usage});
  }
  void read_source(Part source);
  void read_address(const Part &host);
  void read_target(Part target);
  uint16_t read_port(const Part &port);

  Part entry_;
  std::string where_;
  Errors &errors_;
  MappingConfig mapping_;
  TargetConfig target_;
};

// Brackets are IPv6's: without them nobody could tell its colons from the one before the port.
Result<std::string> bare(std::string_view host) {
  const bool brackets = host.size() >= 2 && host.front() == '[' && host.back() == ']';
  const std::string inside(brackets ? host.substr(1, host.size() - 2) : host);
  const bool colons = inside.find(':') != std::string::npos;
  if (brackets && !colons)
    return Error{"", in_quotes(host) + " is not an IP address", "brackets are for IPv6 alone"};
  if (colons && !brackets)
    return Error{"", in_quotes(host) + " is not an IP address",
                 "an IPv6 address stands in brackets: 11211-[2001:db8::1]:11211"};
  return inside;
}

std::optional<MappingConfig> EntryReader::read(const std::vector<std::string> &devices) {
  const size_t dash = entry_.text.rfind('-');
  const size_t colon = entry_.text.rfind(':'), bracket = entry_.text.rfind(']');
  if (dash == std::string_view::npos || colon == std::string_view::npos || colon < dash ||
      (bracket != std::string_view::npos && colon < bracket)) {
    error(entry_, {"", "is not of the form " + std::string(kXForm),
                   "write, for instance: -x 11211-192.168.2.184:11211"});
    return std::nullopt;
  }
  const size_t errors = errors_.size();
  mapping_.where = target_.where = where_;
  mapping_.devices = devices;
  read_source(entry_.from(0, dash));
  read_target(entry_.from(dash + 1));
  if (errors_.size() > errors)
    return std::nullopt;
  mapping_.targets.push_back(target_);
  return mapping_;
}

void EntryReader::read_source(Part source) {
  if (const size_t colon = source.text.rfind(':'); colon != std::string_view::npos) {
    read_address(source.from(0, colon));
    source = source.from(colon + 1);
  }
  const auto ports = parse_ports(source.text);
  if (!ports) {
    error(source, ports.errors()[0]);
    return;
  }
  mapping_.port_first = ports->first;
  mapping_.port_last = ports->last;
  mapping_.name = service_text(mapping_);
}

// As with tcpcopy, what goes to that address alone is mirrored.
void EntryReader::read_address(const Part &host) {
  const auto text = bare(host.text);
  const auto address = text ? parse_service_address(*text) : text.errors();
  if (address)
    mapping_.address = *address;
  else if (text && !parse_address(*text) && text->find('%') == std::string::npos)
    error(host, {"", in_quotes(*text) + " is not an IP address",
                 "write this host's ports before the \"-\", and in front of them at most its "
                 "address in numbers: -x 192.168.2.1:11211-192.168.2.184:11211"});
  else
    error(host, address.errors()[0]);
}

void EntryReader::read_target(Part target) {
  const size_t colon = target.text.rfind(':');
  const Part host = target.from(0, colon);
  const auto text = bare(host.text);
  const auto address = text ? parse_target_address(*text) : text.errors();
  if (address)
    target_.address = *address;
  else
    error(host, address.errors()[0]);
  target_.port = read_port(target.from(colon + 1));
}

uint16_t EntryReader::read_port(const Part &port) {
  const auto number = parse_number(port.text, 65535);
  if (number && *number > 0)
    return static_cast<uint16_t>(*number);
  error(port, {"", in_quotes(port.text) + " is not a port", "ports go from 1 to 65535"});
  return 0;
}

} // namespace

std::vector<MappingConfig> parse_x_option(const std::vector<std::string> &devices,
                                          const std::string &text, Errors &errors) {
  std::vector<MappingConfig> mappings;
  const Part all{text};
  for (size_t at = 0; at <= text.size();) {
    const size_t end = std::min(text.find(',', at), text.size());
    if (auto m = EntryReader(all.from(at, end), errors).read(devices))
      mappings.push_back(*std::move(m));
    at = end + 1;
  }
  return mappings;
}

} // namespace doppel
