//! Whether the mode bits of a datastore that checks them let a caller do something. The rules are in
//! `trivet_storage::nfs::permissions`; here is where the attributes come from.
//!
//! A check and the change after it are two steps, as in every NFS server: a chmod between them counts for the next call.

use super::Inner;
use std::sync::Arc;
use trivet_storage::messages::{Attr, FileKind, LookupAsk, MetaAnswer, MetaAsk, NfsStatus, SetAttr};
use trivet_storage::nfs::calls::Call;
use trivet_storage::nfs::handle::Claimed;
use trivet_storage::nfs::permissions::{right, Caller, Permissions};
use trivet_storage::nfs::status;

const CHANGE_DIR: u32 = right::WRITE | right::EXECUTE;

fn granted(may: bool) -> Result<(), NfsStatus> {
    if may {
        Ok(())
    } else {
        Err(status::ACCES)
    }
}

impl Inner {
    /// How the datastore of a call treats uids.
    pub(super) fn permissions_of(&self, call: &Call) -> Permissions {
        let datastore = call.handles().flatten().next().map(|claimed| claimed.handle.datastore);
        datastore.and_then(|id| self.exports.get(id)).map_or(Permissions::Trusted, |e| e.permissions)
    }

    /// For an admitted call in a datastore that checks modes. Attributes that the caller may not set are removed from the call.
    ///
    /// # Errors
    /// The status that the call is answered with when it is not carried out.
    pub(super) async fn permit(self: &Arc<Self>, caller: &Caller, call: &mut Call) -> Result<(), NfsStatus> {
        match call {
            Call::Null
            | Call::GetAttr(_)
            | Call::Access { .. }
            | Call::ReadLink(_)
            | Call::FsStat(_)
            | Call::FsInfo(_)
            | Call::PathConf(_) => Ok(()),
            Call::SetAttr { file, attr, to_now, .. } => {
                let of_file = self.attr_for(*file).await?;
                caller.may_set(&of_file, attr, *to_now)?;
                attr.mode = caller.mode_to_set(&of_file, attr);
                Ok(())
            }
            Call::Lookup { dir, .. } => self.may_in(caller, *dir, right::EXECUTE).await,
            Call::ReadDir { dir, .. } | Call::ReadDirPlus { dir, .. } => self.may_in(caller, *dir, right::READ).await,
            Call::Read { file, .. } => self.may_transfer(caller, *file, right::READ).await,
            Call::Write { file, .. } | Call::Commit { file } => self.may_transfer(caller, *file, right::WRITE).await,
            Call::Create { dir, name, attr, .. }
            | Call::Mkdir { dir, name, attr }
            | Call::Symlink { dir, name, attr, .. } => self.may_make(caller, *dir, name, attr).await,
            Call::Mknod { dir, name, kind, attr, .. } => {
                if kind.is_device() && !caller.is_root() {
                    return Err(status::PERM);
                }
                self.may_make(caller, *dir, name, attr).await
            }
            Call::Remove { dir, name } | Call::Rmdir { dir, name } => {
                self.may_remove(caller, *dir, name).await.map(drop)
            }
            Call::Rename { from, from_name, to, to_name } => {
                let moved = self.may_remove(caller, *from, from_name).await?;
                self.may_remove(caller, *to, to_name).await?;
                // A folder that moves gets another parent, which is written into it.
                let moves = moved.filter(|m| m.kind == FileKind::Folder && from != to);
                granted(moves.is_none_or(|m| caller.may(&m, right::WRITE)))
            }
            Call::Link { dir, .. } => self.may_in(caller, *dir, CHANGE_DIR).await,
        }
    }

    async fn attr_for(self: &Arc<Self>, claimed: Option<Claimed>) -> Result<Attr, NfsStatus> {
        self.attr_of(claimed.ok_or(status::BADHANDLE)?.handle.fileid).await
    }

    /// The call itself refuses a file that is no folder.
    async fn may_in(self: &Arc<Self>, caller: &Caller, dir: Option<Claimed>, rights: u32) -> Result<(), NfsStatus> {
        let dir = self.attr_for(dir).await?;
        granted(dir.kind != FileKind::Folder || caller.may(&dir, rights))
    }

    async fn may_transfer(
        self: &Arc<Self>,
        caller: &Caller,
        file: Option<Claimed>,
        rights: u32,
    ) -> Result<(), NfsStatus> {
        let file = self.attr_for(file).await?;
        granted(file.kind == FileKind::Folder || caller.may_transfer(&file, rights))
    }

    async fn entry(&self, dir: &Attr, name: &[u8]) -> Option<Attr> {
        let ask = LookupAsk { dir: dir.fileid, name: name.to_vec() };
        match self.metad(MetaAsk::Lookup(ask)).await {
            MetaAnswer::Reply(r) if r.status == status::OK => r.inode.map(|i| i.attr),
            _ => None,
        }
    }

    async fn may_make(
        self: &Arc<Self>,
        caller: &Caller,
        dir: Option<Claimed>,
        name: &[u8],
        attr: &mut SetAttr,
    ) -> Result<(), NfsStatus> {
        let dir = self.attr_for(dir).await?;
        if dir.kind != FileKind::Folder {
            return Ok(());
        }
        granted(caller.may(&dir, right::EXECUTE))?;
        if !caller.may(&dir, right::WRITE) {
            // A file that is there already is opened, or EXIST.
            return granted(self.entry(&dir, name).await.is_some());
        }
        if !caller.is_root() {
            (attr.uid, attr.gid) = (None, None);
            let gid = if dir.mode & 0o2000 != 0 { dir.gid } else { caller.gid };
            attr.mode = caller.mode_to_set(&Attr { gid, ..Default::default() }, attr);
        }
        Ok(())
    }

    /// Returns the attributes behind the name, as far as they matter.
    async fn may_remove(
        self: &Arc<Self>,
        caller: &Caller,
        dir: Option<Claimed>,
        name: &[u8],
    ) -> Result<Option<Attr>, NfsStatus> {
        let dir = self.attr_for(dir).await?;
        if dir.kind != FileKind::Folder || caller.is_root() {
            return Ok(None);
        }
        caller.may_remove(&dir, None)?;
        let entry = self.entry(&dir, name).await;
        caller.may_remove(&dir, entry.as_ref())?;
        Ok(entry)
    }
}
