#include "launcher/interop/export_folder.h"

#include <unistd.h>

#include <filesystem>

#include "runtime/errors.h"
#include "runtime/tensor_file.h"

namespace unipool {
namespace {

namespace fs = std::filesystem;

}  // namespace

void RefuseExisting(const std::string& out) {
  std::error_code ignored;
  if (fs::exists(fs::symlink_status(out, ignored)))
    throw UserError("--out=" + out + ": exists already; name a folder that does not");
}

ExportFolder::ExportFolder(std::string out) : out_(std::move(out)) {
  while (out_.size() > 1 && out_.back() == '/') out_.pop_back();
  RefuseExisting(out_);
  const std::string name = out_ + Format(".partial-%d", getpid());
  std::error_code error;
  const bool is_made = fs::create_directory(name, error);
  if (!is_made)
    throw UserError("--out=" + out_ + ": no folder can be made there (" +
                    (error ? error.message() : name + " exists") + ")");
  partial_ = name;
}

ExportFolder::~ExportFolder() {
  std::error_code ignored;
  if (!partial_.empty()) fs::remove_all(partial_, ignored);
}

void ExportFolder::Write(const std::string& name, const std::string& text) const {
  WriteTextFile((fs::path(partial_) / name).string(), text);
}

void ExportFolder::Finish() {
  SyncDirectory(partial_);
  RefuseExisting(out_);
  std::error_code error;
  fs::rename(partial_, out_, error);
  if (error)
    throw UserError("--out=" + out_ + ": " + partial_ + " cannot get this name (" + error.message() + ")");
  partial_.clear();
}

}  // namespace unipool
