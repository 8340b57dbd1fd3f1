// SPDX-License-Identifier: Apache-2.0
#include "userspace/util/base64.h"

#include <openssl/evp.h>

namespace doppel {

std::optional<std::string> from_base64(std::string_view text) {
  const size_t data = text.find_last_not_of('=') + 1, padding = text.size() - data;
  if (text.size() % 4 != 0 || text.size() > INT32_MAX || padding > 2 || data == 0 ||
      text.find('=') < data)
    return std::nullopt;
  std::string bytes(text.size() / 4 * 3, '\0');
  if (EVP_DecodeBlock(reinterpret_cast<unsigned char *>(bytes.data()),
                      reinterpret_cast<const unsigned char *>(text.data()),
                      static_cast<int>(text.size())) < 0)
    return std::nullopt;
  bytes.resize(bytes.size() - padding); // EVP_DecodeBlock() counts the padding
  return bytes;
}

} // namespace doppel
