// The folder that an export makes. It is written under another name, and gets its own as the last act.
#pragma once

#include <string>

namespace unipool {

class ExportFolder {
 public:
  // Makes the folder OUT.partial-PID beside `out`. Throws UserError where `out` exists already, or the
  // folder cannot be made.
  explicit ExportFolder(std::string out);
  // Removes what was written, unless it was finished.
  ~ExportFolder();
  ExportFolder(const ExportFolder&) = delete;

  const std::string& path() const { return partial_; }  // where to write
  void Write(const std::string& name, const std::string& text) const;
  // Syncs and renames. Throws UserError.
  void Finish();

 private:
  std::string out_, partial_;
};

// Throws UserError where there is something of that name.
void RefuseExisting(const std::string& out);

}  // namespace unipool
